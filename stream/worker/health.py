"""GET /health and /metrics: is this worker ready, recovering or stuck, and why."""

import json
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from socketserver import ThreadingMixIn
from types import MappingProxyType
from typing import Any, cast
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import REGISTRY, CollectorRegistry, make_wsgi_app

from models.errors import SettingsError
from stream.encoding.writer import VectorWriter

#: Answers a request: a WSGI application.
Page = Callable[[dict[str, Any], Any], Iterable[bytes]]

#: Seconds after which a worker that does not get ahead calls itself stuck.
STUCK_AFTER_S = 30.0

#: Ports tried after the wanted one, for more workers on one host.
PORTS_TRIED = 20


@dataclass(frozen=True, slots=True)
class Health:
    """What /health says; 200 when ready, else 503."""

    #: starting, recovering, ready or stuck
    status: str
    reason: str = ""
    partitions: int = 0
    recovery_remaining: int = 0


def check(app: Any) -> Health:
    """Return the health of a worker's app (stream.worker.twintide_app.TwintideApp).

    Called from the thread that answers /health: it only reads, and each value by itself.
    """
    # Not `app.tables.recovery`: asked for early, it makes a Recovery in this thread, and the worker hangs.
    recovery, parts = app.tables._recovery, app.parts
    if recovery is None:
        return Health("starting", "connecting")
    # Faust counts what was written since it asked for the end, too: fewer than none are left then.
    remaining = max(recovery.active_remaining_total(), 0) if recovery.in_recovery else 0
    partitions = sum(tp.topic == app.behaviour_topic for tp in app.assigned_partitions())
    uncommitted_s = parts.commits.uncommitted_s()
    if recovery.in_recovery:
        reason = f"{remaining} changelog records to restore"
        return Health("recovering", reason, partitions, remaining)
    if parts.refresher and (reason := _why_no_vectors(parts.refresher.writer, uncommitted_s)):
        return Health("stuck", reason, partitions)
    if parts.live_models and (reason := parts.live_models.why_not()):
        return Health("stuck", reason, partitions)
    if parts.topic_watch.not_allowed:
        return Health("stuck", parts.topic_watch.not_allowed, partitions)
    if app.rebalancing or not recovery.completed.is_set():
        return Health("starting", "waiting for partitions", partitions)
    if app.source.waits_for:
        return Health("stuck", f"{app.source.waits_for}: reading waits for it", partitions)
    # Reading again from the committed offsets takes a moment.
    if partitions and (unread_s := parts.assignments.current.over_s()) > STUCK_AFTER_S:
        return Health("stuck", f"nothing is read of the partitions since {unread_s:.0f} s", partitions)
    if parts.topic_watch.complaint:
        return Health("stuck", parts.topic_watch.complaint, partitions)
    if uncommitted_s > STUCK_AFTER_S:
        return Health("stuck", f"read events are not all committed since {uncommitted_s:.0f} s", partitions)
    return Health("ready", "", partitions)


def _why_no_vectors(writer: VectorWriter, uncommitted_s: float) -> str:
    """Return why no vectors have been written for too long, empty where they are."""
    refused_s = time.monotonic() - writer.redis_error_since
    if writer.redis_error and max(uncommitted_s, refused_s) > STUCK_AFTER_S:
        return f"Redis refuses vectors: {writer.redis_error}"
    return ""


class _QuietHandler(WSGIRequestHandler):
    #: Who connects and says nothing is let go after this (s).
    timeout = 10.0

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: a scrape every few seconds is no news."""


class _Server(ThreadingMixIn, WSGIServer):
    """Answers each request in a thread: none waits for another, such as a probe for who looks at a page."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of who went away before the answer was there."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


def serve(
    host: str,
    port: int,
    health: Callable[[], Health],
    registry: CollectorRegistry = REGISTRY,
    pages: Mapping[str, Page] = MappingProxyType({}),
    ports_tried: int = PORTS_TRIED,
) -> int:
    """Answer /health, /metrics and `pages` in threads of its own, and return the port it took.

    A page answers its path and all below it, which it finds in PATH_INFO as it is.

    Where the port is taken, as by another worker of this host, the next free one is, of `ports_tried`.
    """
    metrics_app = make_wsgi_app(registry)

    def application(environment: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        path = environment["PATH_INFO"]
        if path == "/metrics":
            return cast(Iterable[bytes], metrics_app(environment, start_response))
        if page := next((page for at, page in pages.items() if f"{path}/".startswith(f"{at}/")), None):
            return page(environment, start_response)
        if path != "/health":
            start_response("404 Not Found", [("Content-Type", "text/plain")])
            return [f"there is {', '.join(['/health', '/metrics', *pages])}\n".encode()]
        found = health()
        status = "200 OK" if found.status == "ready" else "503 Service Unavailable"
        start_response(status, [("Content-Type", "application/json")])
        return [json.dumps(asdict(found)).encode() + b"\n"]

    for candidate in range(port, port + ports_tried):
        try:
            server = make_server(host, candidate, application, _Server, _QuietHandler)
        except (OSError, OverflowError) as error:  # there is no port above 65535
            last_error = error
            continue
        threading.Thread(target=server.serve_forever, name="health", daemon=True).start()
        return candidate
    raise SettingsError(
        f"no port of {host}:{port}-{port + ports_tried - 1} is free for /metrics ({last_error}): "
        "set TWINTIDE_METRICS_PORT"
    )
