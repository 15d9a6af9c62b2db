"""Python httpx with HTTP/2: the three calls to each base URL; names resolve to ADDRESS."""
import os, socket, ssl, sys
import httpx

address, bases = sys.argv[1], sys.argv[2:]
resolve = socket.getaddrinfo
socket.getaddrinfo = lambda host, *rest, **named: resolve(address, *rest, **named)
trust = ssl.create_default_context(cafile=os.environ["SSL_CERT_FILE"])
for base in bases:
    with httpx.Client(http2=True, verify=trust, trust_env=False, timeout=20) as client:
        for method, path in [("GET", "/v1/health"), ("GET", "/v1/users/7"), ("DELETE", "/v1/users/7")]:
            answer = client.request(method, base + path)
            print(answer.http_version.removeprefix("HTTP/"), answer.status_code, answer.text.strip())
