"""One slow call by HTTP/2 while the gate shuts down: prints what it hears, and what becomes of calls begun afterwards."""
import socket, struct, sys

host, address, port = sys.argv[1].encode(), sys.argv[2], int(sys.argv[3])
HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY = 1, 3, 4, 6, 7


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def ask(stream, path):
    authority = host + b":" + str(port).encode()
    head = b"\x82\x86\x04" + bytes([len(path)]) + path + b"\x01" + bytes([len(authority)]) + authority
    client.sendall(frame(HEADERS, 5, stream, head))


def say(*words):
    print(*words, flush=True)


client = socket.create_connection((address, port))
client.settimeout(20)
client.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0))
ask(1, b"/slow/60?ms=50")
reader, received, late = client.makefile("rb"), 0, False
while len(start := reader.read(9)) == 9:
    length, kind, flags, stream = struct.unpack(">IBBI", b"\0" + start)
    payload = reader.read(length)
    if kind == SETTINGS and not flags & 1:
        client.sendall(frame(SETTINGS, 1, 0))
    elif kind == PING and not flags & 1:
        client.sendall(frame(PING, 1, 0, payload))
    elif kind == GOAWAY:
        last = struct.unpack(">I", payload[:4])[0]
        say("goaway", last)
        if last == 1 and not late:
            late = True
            ask(3, b"/v1/health")
            try:
                other = socket.create_connection((address, port), timeout=5)
                other.sendall(b"GET /v1/health HTTP/1.1\r\nHost: " + host + b":" + str(port).encode() + b"\r\n\r\n")
                say("new", other.recv(12).decode() or "closed")
            except OSError as error:
                say("new", type(error).__name__)
    elif stream == 1 and kind == 0:
        if received == 0:
            say("open")
        received += length
        if flags & 1:
            say("ended", payload.decode().strip() or "empty")
    elif stream == 1 and kind == RST_STREAM:
        say("reset")
    elif stream == 3:
        say("late call answered")
say("closed", received)
