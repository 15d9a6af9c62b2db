"""A program whose executable counts: connects, becomes or starts another one, and calls over that connection.

program.py MODE ADDRESS PORT HOST OTHER: `call` calls by itself; `exec` connects and becomes OTHER, which calls; `fork`
connects and has a child call while the parent becomes OTHER.
"""

import os
import socket
import sys

CALL = """
import socket, sys
connection = socket.socket(fileno=int(sys.argv[1]))
connection.settimeout(20)
connection.sendall(("GET /v1/users/7 HTTP/1.1\\r\\nHost: %s\\r\\nConnection: close\\r\\n\\r\\n" % sys.argv[2]).encode())
print("answer", connection.recv(4096).split(b" ")[1].decode(), flush=True)
"""


def main():
    mode, address, port, host, other = sys.argv[1:]
    print("here", flush=True)
    sys.stdin.readline()
    connection = socket.create_connection((address, int(port)), 20)
    connection.set_inheritable(True)
    number = connection.fileno()
    print("connected", flush=True)
    if mode == "exec":
        os.execv(other, [other, "-c", CALL, str(number), host])
    if mode == "fork" and os.fork() != 0:
        os.execv(other, [other, "-c", "import sys; sys.stdin.read()"])
    while mode == "fork" and os.readlink("/proc/%d/exe" % os.getppid()) != other:
        pass
    sys.argv = ["-c", str(number), host]
    exec(CALL)


main()
