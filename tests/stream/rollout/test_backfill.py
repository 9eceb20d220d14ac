"""A backfill writes every user of a partition once, the live ones first, whatever comes in between."""

import asyncio
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import pytest
import redis

from models.windows.window import Window, WindowSettings, read_header, window_to_bytes
from stream.encoding.refresher import Work
from stream.rollout.backfill import PORTION_S, PORTION_USERS, Backfill, Backfiller
from stream.store.registry_state import LiveModel
from stream.windows.assignment import Assignment
from stream.windows.partition import Partition

MODEL = LiveModel("m", 1)


def window(offset: int) -> bytes:
    return window_to_bytes(Window("t", 0, offset, 1, 0, 0, [10], [1], ["i"], ["c"], [1]))


@dataclass
class Table:
    rows: dict[bytes, bytes] = field(default_factory=dict)

    def load(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return [self.rows.get(key) for key in keys]

    def count(self, partition: int) -> int:
        return len(self.rows)

    def scan(self, partition: int, after: bytes, at_most: int) -> list[tuple[bytes, bytes]]:
        return sorted(each for each in self.rows.items() if each[0] > after)[:at_most]


@dataclass
class Refresher:
    written: list[tuple[str, int]] = field(default_factory=list)
    categories: list[list[str]] = field(default_factory=list)
    failures: int = 0
    #: What a portion costs, and each of its users.
    portion_s: float = 0.0
    user_s: float = 0.01
    #: How many polls find changed users waiting.
    full: int = 0

    def is_busy(self) -> bool:
        self.full -= 1
        return self.full >= 0

    async def write_cold_start(self, version: str, categories: Sequence[str]) -> Work:
        assert (version, self.full < 0) == ("m", True)
        self.categories.append(list(categories))
        return Work(took_s=0.03)

    async def backfill(
        self, assignment: Assignment, users: Sequence[tuple[str, bytes]], versions: Collection[str]
    ) -> Work:
        if self.failures:
            self.failures -= 1
            raise redis.ConnectionError("down")
        assert versions == {"m"}
        self.written += [(user_id, read_header(value).offset) for user_id, value in users]
        cpu_s = self.user_s * len(users)
        return Work(self.portion_s + cpu_s, cpu_s)


class Setup:
    def __init__(self) -> None:
        self.table, self.refresher = Table(), Refresher()
        self.table.rows = {name.encode(): window(1) for name in "abcdefgh"}
        self.fold = Partition("t", 0, WindowSettings(), self.table.load)
        self.assignment = Assignment(1, {0: self.fold})
        self.backfiller = Backfiller(1e9, self.refresher, self.table)  # type: ignore[arg-type]
        self.backfiller._users = 2.0  # a portion

    def begin(self) -> Backfill:
        return self.backfiller.begin(self.assignment, 0, [MODEL], losses=0)

    def step(self, backfill: Backfill) -> None:
        asyncio.run(self.backfiller.step(backfill, lambda: backfill.assignment.is_over))

    def finish(self, backfill: Backfill) -> None:
        while not backfill.is_complete:
            self.step(backfill)


def test_all_are_written_once_and_those_in_memory_first_as_they_are_there() -> None:
    here = Setup()
    for user_id in "cf":
        here.fold._windows[user_id] = window(7)  # as they are now, not as they are stored
    backfill = here.begin()
    here.finish(backfill)
    assert here.refresher.written[:2] == [("f", 7), ("c", 7)]
    assert sorted(here.refresher.written) == [(name, 7 if name in "cf" else 1) for name in "abcdefgh"]
    assert backfill.done == backfill.total == 8


def test_who_changed_since_or_is_forgotten_is_not_written_as_stored() -> None:
    here = Setup()
    backfill = here.begin()
    here.step(backfill)
    here.fold._windows["g"] = window(9)
    here.fold._windows["h"] = window_to_bytes(Window("t", 0, 9))  # what a request to forget leaves
    here.finish(backfill)
    assert ("g", 9) in here.refresher.written
    assert "h" not in {user_id for user_id, _ in here.refresher.written}


def test_portion_that_redis_did_not_take_is_written_later() -> None:
    here = Setup()
    here.fold.window("d")
    backfill = here.begin()
    here.refresher.failures = 2
    for _ in range(2):
        with pytest.raises(redis.ConnectionError):
            here.step(backfill)
    here.finish(backfill)
    assert sorted(user_id for user_id, _ in here.refresher.written) == list("abcdefgh")


def test_categories_are_written_in_portions_and_let_live_users_go_first() -> None:
    here = Setup()
    here.refresher.full = 3
    categories = [f"c{number}" for number in range(2 * PORTION_USERS + 1)]
    started = time.monotonic()
    asyncio.run(here.backfiller.write_categories("m", categories))
    assert [len(portion) for portion in here.refresher.categories] == [PORTION_USERS, PORTION_USERS, 1]
    assert [each for portion in here.refresher.categories for each in portion] == categories
    assert time.monotonic() - started >= 3 * PORTION_S + 3 * 0.03, "it rests as long as it works"
    here.backfiller._users_per_s = 10.0
    started = time.monotonic()
    asyncio.run(here.backfiller.write_categories("m", ["c"]))
    assert time.monotonic() - started >= 0.1


def test_backfill_of_an_assignment_that_is_over_writes_nothing() -> None:
    here = Setup()
    backfill = here.begin()
    here.assignment.end()
    here.step(backfill)
    assert here.refresher.written == []


@pytest.mark.parametrize(("user_s", "users"), [(0.00005, 256), (0.0002, 100), (0.003, 6), (0.05, 1)])
def test_portion_is_as_large_as_a_cpu_has_time_for_however_long_it_waits(user_s: float, users: int) -> None:
    here = Setup()
    here.refresher.user_s, here.refresher.portion_s = user_s, 0.002
    here.table.rows = {f"{number:05}".encode(): window(1) for number in range(6_000)}
    backfill = here.begin()
    for _ in range(20):
        done = backfill.done
        here.step(backfill)
    assert backfill.done - done == pytest.approx(users, rel=0.1)
