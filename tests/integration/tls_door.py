"""A door by TLS before a server that has none: it knows itself by whatever certificate it is given."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def tls_door(port: int, certificate: Path, clients: Path | None = None) -> Iterator[int]:
    """Give the port of a door to a port of this host.

    With `clients`, whoever comes needs a certificate of that authority.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    if clients:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(clients)
    with socket.create_server(("127.0.0.1", 0)) as door:
        threading.Thread(target=_serve, args=(door, context, port), daemon=True).start()
        yield int(door.getsockname()[1])


def _serve(door: socket.socket, context: ssl.SSLContext, port: int) -> None:
    while True:
        try:
            caller, _ = door.accept()
        except OSError:  # the door is closed
            return
        threading.Thread(target=_let_in, args=(caller, context, port), daemon=True).start()


def _let_in(caller: socket.socket, context: ssl.SSLContext, port: int) -> None:
    with (
        suppress(OSError),
        context.wrap_socket(caller, server_side=True) as inside,
        socket.create_connection(("127.0.0.1", port)) as server,
    ):
        threading.Thread(target=_copy, args=(server, inside), daemon=True).start()
        _copy(inside, server)


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while some := source.recv(65_536):
            target.sendall(some)
