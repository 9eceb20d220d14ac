"""GET /explain/...: the page's files and its data, as a WSGI application on the worker's web port."""

import asyncio
import logging
import string
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock
from typing import Any
from urllib.parse import parse_qs, quote

import msgspec

from models.windows.window import MAX_ID_BYTES
from stream.explain.explanation import Explanation
from stream.explain.gate import Gate
from stream.explain.live import Live, dead_letters
from stream.explain.lookup import Lookup
from stream.worker import health
from stream.worker.twintide_app import TwintideApp

logger = logging.getLogger(__name__)

#: Where the page is.
AT = "/explain"

STATIC = Path(__file__).parent / "static"
#: Every file of the page: path below AT -> file below STATIC, and what it is.
FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    **{
        f"/{name}": (name, kind)
        for kind, names in {
            "text/javascript; charset=utf-8": (
                *("page.js", "api.js", "elements.js", "live.js", "user.js", "timeline.js"),
                "vendor/uPlot.iife.min.js",
            ),
            "text/css; charset=utf-8": ("page.css", "vendor/uPlot.min.css"),
            "image/svg+xml": ("icon.svg",),
        }.items()
        for name in names
    },
}

#: Nothing from another host, nothing inline, in nobody's frame.
HEADERS = [
    (
        "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cache-Control", "no-store"),
]

#: One user is explained at a time; who waits longer for their turn is told to ask again (s).
TURN_S = 2.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What is answered to a request."""

    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    status: str = "200 OK"
    headers: tuple[tuple[str, str], ...] = ()


class BadRequestError(Exception):
    """A request that cannot be answered; the message says why, in one line."""


class ExplainPage:
    """The page of one worker: a WSGI application, called from many threads."""

    def __init__(self, app: TwintideApp) -> None:
        self._app = app
        self._gate = Gate(app.settings.explain_token)
        self._live = Live()
        self._lookup = Lookup(app)
        self._explanation = Explanation(app, self._lookup)
        self._turn = Lock()

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Show what the worker on this event loop does, from now on."""
        self._lookup.attach(loop)
        self._live.start(lambda: self._app.assignments.current)

    def __call__(self, environment: Mapping[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer a request below AT."""
        answer = self._answer(environment)
        headers = [("Content-Type", answer.content_type), ("Content-Length", str(len(answer.body)))]
        start_response(answer.status, [*headers, *HEADERS, *answer.headers])
        return [] if environment["REQUEST_METHOD"] == "HEAD" else [answer.body]

    def _answer(self, environment: Mapping[str, Any]) -> Answer:
        path = environment["PATH_INFO"].removeprefix(AT)
        data = self._data().get(path)
        if refusal := self._gate.refuse(environment, is_data=path not in FILES):
            bearer = (("WWW-Authenticate", "Bearer"),) if refusal.status.startswith("401") else ()
            return Answer(f"{refusal.reason}\n".encode(), status=refusal.status, headers=bearer)
        if environment["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return Answer(b"only GET is answered\n", status="405 Method Not Allowed")
        if path == "":  # its files are found relative to it, also behind a proxy that puts a path before it
            return Answer(b"", status="308 Permanent Redirect", headers=(("Location", "explain/"),))
        if path in FILES:
            name, kind = FILES[path]
            return Answer((STATIC / name).read_bytes(), kind)
        if data is None:
            return Answer(b"there is /explain/ and its data\n", status="404 Not Found")
        return _guarded(lambda: data(environment))

    def _data(self) -> dict[str, Callable[[Mapping[str, Any]], Any]]:
        return {
            "/api/live": lambda _: self._state(),
            "/api/user": lambda environment: self._of_user(self._explanation.user, environment),
            "/api/items": lambda environment: self._of_user(self._explanation.nearest, environment),
        }

    def _state(self) -> dict[str, Any]:
        """Return what the worker does now."""
        live = self._app.parts.live_models
        found = health.check(self._app)
        return {
            **self._live.snapshot(),
            "health": asdict(found),
            "dead_letters": dead_letters(),
            "topic": self._app.settings.topic,
            "worker": self._app.address,
            "model": live.serving if live else "",
            "window_partitions": self._app.window_partitions,
        }

    def _of_user(
        self, explain: Callable[[str], dict[str, Any]], environment: Mapping[str, Any]
    ) -> dict[str, Any]:
        user_id = _user_id(environment.get("QUERY_STRING", ""))
        if not self._turn.acquire(timeout=TURN_S):
            raise BadRequestError("others are being explained: ask again")
        try:
            return explain(user_id)
        finally:
            self._turn.release()


def _guarded(data: Callable[[], Any]) -> Answer:
    """Return data as JSON; what fails is one line to whoever asks, and a traceback in the log."""
    try:
        return Answer(msgspec.json.encode(data()), "application/json")
    except BadRequestError as error:
        return Answer(f"{error}\n".encode(), status="400 Bad Request")
    except Exception:
        logger.exception("the explain page could not answer")
        return Answer(b"this failed: the worker's log has the reason\n", status="500 Internal Server Error")


def _user_id(query: str) -> str:
    """Return the user id that a query string asks for, whatever it is made of. Raises BadRequestError."""
    try:
        given = parse_qs(
            quote(query, safe=string.printable, encoding="latin-1"), keep_blank_values=True, errors="strict"
        ).get("id", [""])
    except (UnicodeDecodeError, ValueError) as error:
        raise BadRequestError("the user id is not percent-encoded UTF-8") from error
    if len(given) != 1 or not given[0]:
        raise BadRequestError("give one user id: ?id=...")
    if len(given[0].encode()) > MAX_ID_BYTES:
        raise BadRequestError(f"no user id is longer than {MAX_ID_BYTES} bytes")
    return given[0]
