"""How many bytes a user takes, of what stands in Redis, RocksDB and changelog."""

import asyncio
from types import SimpleNamespace

import pytest
import redis

from models.windows.window import WindowSettings
from stream import metrics
from stream.windows.assignment import Assignment
from stream.windows.partition import Partition
from stream.worker.footprint import USERS, Footprint


def shown(where: str) -> float:
    return float(metrics.bytes_per_user.labels(where)._value.get())


def partition(windows: dict[str, bytes]) -> Partition:
    found = Partition("id", 0, WindowSettings(), lambda keys: [None for _ in keys])
    found._windows |= windows
    return found


def measure(windows: dict[str, bytes], is_redis_down: bool = False) -> list[str]:
    """Measure a worker that holds these windows; return whom Redis was asked for."""
    asked: list[str] = []

    def bytes_in_redis(users: list[str]) -> list[int]:
        if is_redis_down:
            raise redis.ConnectionError("down")
        asked.extend(users)
        return [500, 700]

    table = SimpleNamespace(bytes=lambda number: 9_000, count=lambda number: 3)
    footprint = Footprint(table, bytes_in_redis)  # type: ignore[arg-type]
    asyncio.run(footprint.measure(Assignment(1, {0: partition(windows), 1: partition({})})))
    return asked


def test_bytes_are_those_of_who_came_last() -> None:
    windows = {f"user {number}": bytes(number) for number in range(100)}
    assert measure(windows) == list(windows)[-USERS:]
    assert [shown(where) for where in ("redis", "rocksdb", "changelog")] == [600, 3_000, 7 + 89.5]


def test_what_cannot_be_told_stays_as_it_was() -> None:
    metrics.bytes_per_user.labels("redis").set(1)
    measure({"ü": b"four"}, is_redis_down=True)
    assert (shown("redis"), shown("changelog")) == (1, 6)
    measure({})
    assert shown("changelog") == 6


@pytest.mark.parametrize("is_over", [True, False])
def test_nothing_is_measured_of_what_is_given_away(is_over: bool) -> None:
    metrics.bytes_per_user.labels("changelog").set(1)
    held = Assignment(1, {0: partition({"u": b"four"})})
    if is_over:
        held.end()
    table = SimpleNamespace(bytes=lambda number: 0, count=lambda number: 0)
    asyncio.run(Footprint(table, None).measure(held))  # type: ignore[arg-type]
    assert shown("changelog") == (1 if is_over else 5)
