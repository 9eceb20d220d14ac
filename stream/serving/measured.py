"""Around the API: every request is counted and timed, and one that is too large is refused."""

import json
import time
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stream.serving import metrics
from stream.serving.api_requests import MAX_BODY_BYTES

#: Of a body that is too large, so much more is read and thrown away.
DRAINED_BYTES = 10 * MAX_BODY_BYTES


class Measured:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, answer = time.perf_counter(), _Answer(send)
        try:
            if _said_bytes(scope) > MAX_BODY_BYTES:
                await _refuse(receive, answer.send, is_coming=True)
            else:
                await self._app(scope, _limited(receive, answer), answer.send)
        finally:
            path = getattr(scope.get("route"), "path", "other")
            metrics.requests_total.labels(path, str(answer.status)).inc()
            metrics.seconds.labels(path).observe(time.perf_counter() - started)


class _Answer:
    """What is sent, and its status; 500 where nothing is."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 500
        #: Nothing more is sent: it was refused.
        self.is_over = False

    async def send(self, message: Message) -> None:
        """Send a part of the answer."""
        if not self.is_over:
            self.status = message.get("status", self.status)
            await self._send(message)


def _said_bytes(scope: Scope) -> int:
    """Return how long the body will be, 0 where that is not said."""
    said = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
    return int(said) if said.isdigit() else 0


def _limited(receive: Receive, answer: _Answer) -> Receive:
    """Return what receives a body; where it grows too long, that is answered, and nothing after it."""
    received = 0

    async def limited() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received <= MAX_BODY_BYTES:
            return message
        if not answer.is_over:
            await _refuse(receive, answer.send, message.get("more_body", False))
            answer.is_over = True
        return {"type": "http.disconnect"}

    return limited


async def _refuse(receive: Receive, send: Send, is_coming: bool) -> None:
    """Say so, after what still comes, within bounds: who is cut off while sending never reads the answer."""
    left = DRAINED_BYTES
    while is_coming and left > 0:
        message = await receive()
        left -= len(message.get("body", b""))
        is_coming = message.get("more_body", False)
    error = {"error": f"the body is too large: at most {MAX_BODY_BYTES} bytes are taken, in several requests"}
    headers: list[Any] = [(b"content-type", b"application/json"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(error).encode()})
