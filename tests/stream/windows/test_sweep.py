"""Who is swept: the stored, idle, committed, and not seen for longer than the horizon."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

import pytest
import redis

from models.windows.window import Window, WindowSettings, window_to_bytes
from stream.windows import sweep
from stream.windows.assignment import Assignment
from stream.windows.partition import DirtyUser, Partition
from stream.windows.sweep import Sweeper, SweepSettings
from stream.windows.table import WindowTable

HORIZON_MS = 1_000


@dataclass
class Table:
    """Stored windows of partition 0."""

    rows: dict[bytes, bytes] = field(default_factory=dict)
    scanned: list[bytes] = field(default_factory=list)

    def scan(self, partition: int, after: bytes, at_most: int) -> list[tuple[bytes, bytes]]:
        self.scanned.append(after)
        return [row for row in sorted(self.rows.items()) if row[0] > after][:at_most]

    def add(self, user_id: str, newest_ms: int, offset: int = 0, topic_id: str = "t") -> None:
        window = Window(topic_id, 0, offset, 1, 0, 0, [newest_ms], [1], ["i"], ["c"], [1])
        self.rows[user_id.encode()] = window_to_bytes(window)


@dataclass
class Store:
    """Which users' keys were deleted, up to which offset."""

    deleted: list[tuple[str, int]] = field(default_factory=list)
    is_down: bool = False

    def forget(self, users: Sequence[tuple[str, int]]) -> int:
        if self.is_down:
            raise redis.ConnectionError("down")
        self.deleted += users
        return len(users)


@pytest.fixture
def table() -> Table:
    return Table()


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def fold() -> Partition:
    fold = Partition("t", 0, WindowSettings(), lambda keys: [None for _ in keys])
    fold.position = fold.durable_position = 100
    fold.newest_ms = 10_000
    return fold


def make_sweeper(table: Table, store: Store, every_s: float, clock: Callable[[], float]) -> Sweeper:
    return Sweeper(cast(WindowTable, table), store.forget, SweepSettings(HORIZON_MS, every_s), clock)


def sweeper(table: Table, store: Store, every_s: float = 1.0) -> Sweeper:
    now = iter(range(0, 1_000, 2))
    return make_sweeper(table, store, every_s, lambda: next(now))


def test_only_the_old_go_from_redis_first_and_then_by_tombstone(
    table: Table, store: Store, fold: Partition
) -> None:
    table.add("old", 8_999)
    table.add("at the horizon", 9_000)
    table.add("of a topic that is gone", 10, offset=999, topic_id="earlier")
    asyncio.run(sweeper(table, store).step(Assignment(1, {0: fold})))
    assert sorted(store.deleted) == [("of a topic that is gone", 99), ("old", 99)]
    assert fold.needs_checkpoint()
    assert sorted(fold.snapshot().tombstones) == [b"of a topic that is gone", b"old"]
    assert not fold.needs_checkpoint()


def test_who_is_in_use_or_not_committed_stays(table: Table, store: Store, fold: Partition) -> None:
    table.add("dirty", 10)
    table.add("not committed", 10, offset=100)
    fold.dirty["dirty"] = DirtyUser(100, 1, [])
    asyncio.run(sweeper(table, store).step(Assignment(1, {0: fold})))
    assert store.deleted == []
    assert list(fold.snapshot().tombstones) == []


def test_portions_follow_each_other_to_the_end(
    table: Table, store: Store, fold: Partition, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "PORTION", 2)
    for name in ("a", "b", "c"):
        table.add(name, 10)
    slow = make_sweeper(table, store, 10.0, iter([0, 10, 10, 11, 12, 13]).__next__)
    assignment = Assignment(1, {0: fold})
    for _ in range(4):
        asyncio.run(slow.step(assignment))
    assert table.scanned == [b"", b"b", b"c"]
    assert [user_id for user_id, _ in store.deleted] == ["a", "b", "c"]


def test_redis_that_is_down_keeps_the_old(table: Table, store: Store, fold: Partition) -> None:
    table.add("old", 10)
    store.is_down = True
    swept = sweeper(table, store)
    asyncio.run(swept.step(Assignment(1, {0: fold})))
    assert list(fold.snapshot().tombstones) == []
    store.is_down = False
    asyncio.run(swept.step(Assignment(1, {0: fold})))
    assert list(fold.snapshot().tombstones) == [b"old"]


def test_zero_means_never(table: Table, store: Store, fold: Partition) -> None:
    table.add("old", 10)
    asyncio.run(sweeper(table, store, every_s=0).step(Assignment(1, {0: fold})))
    assert table.scanned == []


def test_assignment_that_is_over_is_swept_no_further(table: Table, store: Store, fold: Partition) -> None:
    table.add("old", 10)
    assignment = Assignment(1, {0: fold})
    assignment.end()
    asyncio.run(sweeper(table, store).step(assignment))
    assert (table.scanned, store.deleted) == ([], [])
