"""gRPC's own Python library on bytes, without generated code: TARGET is ADDRESS:PORT, AUTHORITY the name it goes by."""
import os, sys
import grpc

target, authority = sys.argv[1:]
with open(os.environ["SSL_CERT_FILE"], "rb") as file:
    trust = grpc.ssl_channel_credentials(file.read())
options = [("grpc.default_authority", authority), ("grpc.ssl_target_name_override", authority.partition(":")[0])]
with grpc.secure_channel(target, trust, options) as channel:
    def call(what, make):
        try:
            print(what, "OK", make())
        except grpc.RpcError as error:
            print(what, error.code().name, error.details())

    def unary(path, metadata=()):
        return channel.unary_unary(path)(b"hello", timeout=20, metadata=metadata)

    call("unary", lambda: unary("/test.v1.Echo/Say"))
    call("stream", lambda: list(channel.stream_stream("/test.v1.Echo/Say")(iter([b"a", b"b", b"c"]), timeout=20)))
    call("denied", lambda: unary("/test.v1.Echo/Other"))
    call("masked", lambda: unary("/test.v1.Echo/Hidden"))
    # The channel lives on after refusals.
    call("again", lambda: unary("/test.v1.Echo/Say"))
