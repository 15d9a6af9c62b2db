"""Python requests: the three calls to each base URL; names resolve to ADDRESS."""
import socket, sys
import requests

address, bases = sys.argv[1], sys.argv[2:]
resolve = socket.getaddrinfo
socket.getaddrinfo = lambda host, *rest, **named: resolve(address, *rest, **named)
for base in bases:
    with requests.Session() as session:
        for method, path in [("GET", "/v1/health"), ("GET", "/v1/users/7"), ("DELETE", "/v1/users/7")]:
            answer = session.request(method, base + path, timeout=20)
            print(answer.raw.version, answer.status_code, answer.text.strip())
