"""Asks for names in every way that an application can, and prints one line for each: what it asked, and what it got.

Arguments: HOW NAME TYPE RESOLVER. HOW: getaddrinfo, udp, udp-connected, tcp; or attempt-udp, attempt-tcp, which only
say how RESOLVER (ADDRESS:PORT) was refused, and within how many milliseconds.
"""
import errno
import socket
import struct
import sys
import time


def family(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def question(name, kind):
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack(">HHHHHH", 0x4242, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", kind, 1)


def shown(answer):
    ident, flags, _, answers = struct.unpack(">HHHH", answer[:8])
    return f"id={ident:x} rcode={flags & 15} tc={flags >> 9 & 1} ad={flags >> 5 & 1} answers={answers} {answer.hex()}"


def over_udp(how, asked, resolver):
    with socket.socket(family(resolver), socket.SOCK_DGRAM) as udp:
        udp.settimeout(10)
        if how == "udp-connected":
            udp.connect((resolver, 53))
            udp.send(asked)
            peer = udp.getpeername()[:2]
        else:
            udp.sendto(asked, (resolver, 53))
            peer = None
        answer, sender = udp.recvfrom(65535)
        print(f"from={sender[0]}:{sender[1]} peer={peer} {shown(answer)}")


def over_tcp(asked, resolver):
    with socket.create_connection((resolver, 53), 10) as tcp:
        tcp.sendall(struct.pack(">H", len(asked)) + asked)
        answer = tcp.makefile("rb")
        length, = struct.unpack(">H", answer.read(2))
        print(f"peer={tcp.getpeername()[:2]} {shown(answer.read(length))}")


def attempt(how, to):
    host, port = to.rsplit(":", 1)
    host, began = host.strip("[]"), time.monotonic()
    try:
        if how == "attempt-tcp":
            socket.create_connection((host, int(port)), 10).close()
        else:
            with socket.socket(family(host), socket.SOCK_DGRAM) as udp:
                udp.sendto(b"x", (host, int(port)))
        outcome = "done"
    except OSError as error:
        outcome = errno.errorcode.get(error.errno, str(error))
    print(f"{to} {outcome} {int((time.monotonic() - began) * 1000)}")


how, name, kind, resolver = sys.argv[1:5]
if how == "getaddrinfo":
    try:
        found = socket.getaddrinfo(name, 80, proto=socket.IPPROTO_TCP)
        print(name, *sorted({address[4][0] for address in found}))
    except socket.gaierror as error:
        print(name, "fails", error.errno)
elif how.startswith("attempt"):
    attempt(how, resolver)
elif how == "tcp":
    over_tcp(question(name, int(kind)), resolver)
else:
    over_udp(how, question(name, int(kind)), resolver)
