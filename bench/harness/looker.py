"""Somebody who looks at the explain page: what a browser asks, once a second, in a process of its own."""

import time
import urllib.request
from collections.abc import Sequence
from itertools import cycle
from urllib.parse import quote

#: Seconds between two rounds of questions, as the page has it.
EVERY_S = 1.0


def look(port: int, user_ids: Sequence[str], seconds: float) -> dict[str, list[float]]:
    """Return how long each answer took (s), by what was asked: the state, a user, and the nearest items."""
    took: dict[str, list[float]] = {"live": [], "user": [], "items": []}
    ends, users = time.monotonic() + seconds, cycle(user_ids)
    while (due := time.monotonic()) < ends:
        user = quote(next(users), safe="")
        for name in took:
            started = time.perf_counter()
            with urllib.request.urlopen(_url(port, name, user), timeout=30) as answer:
                answer.read()
            took[name].append(time.perf_counter() - started)
        time.sleep(max(due + EVERY_S - time.monotonic(), 0.0))
    return took


def _url(port: int, name: str, user: str) -> str:
    return f"http://127.0.0.1:{port}/explain/api/{name}" + ("" if name == "live" else f"?id={user}")
