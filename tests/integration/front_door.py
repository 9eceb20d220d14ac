"""What stands before a schema registry: TLS and passwords, and a door that can be shut."""

import http.client
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from local.ports import free_port
from tests.integration.certificates import Authority


class FrontDoor:
    """Passes requests with the right `Authorization` on to a registry, by TLS, while it is open."""

    def __init__(self, registry_url: str, authorization: str, folder: Path) -> None:
        self.port, self._folder = free_port(), folder
        authority = Authority(folder, "door-authority")
        self.ca_file, self.certificate = authority.ca_file, authority.certificate("door")
        self._target, self._authorization = urlsplit(registry_url), authorization
        self._server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        """Return where the registry seems to be."""
        return f"https://127.0.0.1:{self.port}{self._target.path}"

    def open(self) -> None:
        """Answer from now on."""
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), self._handler())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def shut(self) -> None:
        """Refuse every connection from now on."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        target, wanted = self._target, self._authorization

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *arguments: object) -> None:
                """Say nothing."""

            def do_GET(self) -> None:
                self._pass_on("GET", None)

            def do_POST(self) -> None:
                self._pass_on("POST", self.rfile.read(int(self.headers["Content-Length"])))

            def _pass_on(self, method: str, body: bytes | None) -> None:
                if self.headers["Authorization"] != wanted:
                    self._answer(401, b'{"error_code": 40101, "message": "Unauthorized"}')
                    return
                connection = http.client.HTTPConnection(target.hostname or "", target.port or 80, timeout=30)
                try:
                    kind = self.headers["Content-Type"] or "application/json"
                    connection.request(method, self.path, body, {"Content-Type": kind})
                    answer = connection.getresponse()
                    self._answer(answer.status, answer.read())
                finally:
                    connection.close()

            def _answer(self, status: int, content: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        return Handler
