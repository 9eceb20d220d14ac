"""A pause ends by time, by new events, or because it shall stop; what the topic does not say ends nothing."""

import math
import time
from collections.abc import Callable
from threading import Event

import pytest

from models.errors import UnreachableError
from offline.continual import pause
from offline.continual.pause import Pause

LONG_S = 60.0


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pause, "ASK_S", 0.01)


def waited(
    every_s: float, events: int, counts: list[int | None], at_most_s: float = math.inf
) -> list[int | None]:
    """Return the counts that were not asked for by a pause whose step begins with the first."""

    def count() -> int:
        found = counts.pop(0) if len(counts) > 1 else counts[0]
        if found is None:
            raise UnreachableError("Kafka is down")
        return found

    waiting = Pause(every_s, events, count)
    waiting.wait(waiting.begin(), Event(), at_most_s)
    return counts


def test_enough_new_events_end_it_before_its_time() -> None:
    started = time.monotonic()
    assert waited(LONG_S, 100, [50, 60, None, 149, 150, 1_000]) == [1_000]
    assert waited(LONG_S, 100, [None, 50, 149, 150, 1_000]) == [1_000]  # counted from the first known number
    assert time.monotonic() - started < LONG_S


def test_time_ends_it_where_events_are_few_or_not_asked_for() -> None:
    assert waited(0.05, 100, [50, 60]) == [60]
    assert waited(0.05, 0, [0, 10_000]) == [0, 10_000]
    assert waited(LONG_S, 100, [50, 60], at_most_s=0.05) == [60]


def test_stopped_it_ends_at_once() -> None:
    stop = Event()
    stop.set()
    ask: Callable[[], int] = lambda: 0  # noqa: E731
    Pause(LONG_S, 100, ask).wait(0, stop)
    Pause(LONG_S, 0, ask).wait(0, stop)
