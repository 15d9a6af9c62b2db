"""Opens one connection after the other, and says of each how it went: `knock.py HOST PORT`.

A status of HTTP (403 is the gate's, 200 the other end's), `refused`, `cut` (nothing came back) or `late` (not in time).
"""

import errno
import socket
import sys
import time

host, port = sys.argv[1], int(sys.argv[2])
request = f"GET / HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode()


def knock():
    try:
        with socket.create_connection((host, port), 3) as connection:
            try:
                connection.sendall(request)
                head = connection.recv(64)
            except ConnectionError:
                return "cut"
    except TimeoutError:
        return "late"
    except OSError as error:
        # As documented: no listener, and no heartbeat. Anything else is told by its name.
        expected = (errno.ECONNREFUSED, errno.EHOSTUNREACH)
        return "refused" if error.errno in expected else errno.errorcode.get(error.errno, str(error))
    return head.split(b" ")[1].decode() if head.startswith(b"HTTP/1.1 ") else "cut"


while True:
    print(knock(), flush=True)
    time.sleep(0.01)
