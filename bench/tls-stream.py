"""One TLS stream as OpenSSL makes it, over loopback: what G9's bulk goal is measured against.

usage: tls-stream.py CERTIFICATE_AND_KEY.pem MEBIBYTES

Prints gigabytes per second. Both ends are processes of their own; data are random; records are OpenSSL's.
"""

import os
import socket
import ssl
import sys
import time

PIECE = 1 << 20


def receive(listener: socket.socket, identity: str, total: int) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity)
    connection, _ = listener.accept()
    with context.wrap_socket(connection, server_side=True) as stream:
        buffer = bytearray(PIECE)
        received = 0
        while received < total:
            count = stream.recv_into(buffer)
            if count == 0:
                sys.exit("the stream ended early")
            received += count
        stream.sendall(b"x")


def main() -> None:
    identity, mebibytes = sys.argv[1], int(sys.argv[2])
    total = mebibytes * PIECE
    listener = socket.create_server(("127.0.0.1", 0))
    if os.fork() == 0:
        receive(listener, identity, total)
        os._exit(0)
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    data = os.urandom(PIECE)
    with socket.create_connection(listener.getsockname()) as connection:
        with context.wrap_socket(connection) as stream:
            started = time.monotonic()
            for _ in range(mebibytes):
                stream.sendall(data)
            stream.recv(1)
            elapsed = time.monotonic() - started
    os.wait()
    print(f"{total / elapsed / 1e9:.4f}")


main()
