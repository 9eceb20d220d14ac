"""Refreshing: every change reaches a vector, however users rest; a batch is full or in time."""

import asyncio
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from models.windows.window import Window, WindowSettings, window_to_bytes
from stream.encoding.refresher import Refresher
from stream.settings import Settings
from stream.windows.assignment import Assignment, Assignments
from stream.windows.partition import DirtyUser, Partition


@dataclass
class Writer:
    """Takes the place of the live models; remembers who was written, batch by batch."""

    batches: list[list[str]] = field(default_factory=list)

    def why_not(self) -> str:
        return ""

    def rows(self, windows: Sequence[tuple[str, bytes]], versions: Collection[str] = ()) -> list[str]:
        return [user_id for user_id, _ in windows]

    def write(self, rows: Sequence[str], forgotten: Sequence[tuple[str, int]]) -> int:
        self.batches.append(list(rows))
        return len(rows)


class SlowRedis(Writer):
    """Writes only when it is let go; says which batches are encoded meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.encoded: list[list[str]] = []
        self.is_free = threading.Event()

    def rows(self, windows: Sequence[tuple[str, bytes]], versions: Collection[str] = ()) -> list[str]:
        self.encoded.append(super().rows(windows, versions))
        return self.encoded[-1]

    def write(self, rows: Sequence[str], forgotten: Sequence[tuple[str, int]] = ()) -> int:
        assert self.is_free.wait(60)
        return super().write(rows, forgotten)


class Fold(Partition):
    """A partition whose users have a window of one event."""

    def __init__(self) -> None:
        super().__init__("topic", 0, SimpleNamespace(), lambda keys: [])  # type: ignore[arg-type]
        self.position = self.durable_position = 0

    def window(self, user_id: str) -> bytes:
        return window_to_bytes(Window("topic", 0, 0, 1, 0, 0, [1], [1], ["i"], ["c"], [1]))

    def change(self, user_id: str) -> None:
        self.dirty.setdefault(user_id, DirtyUser(self.position, 1, []))
        self.position += 1
        self.durable_position = self.position


def refresher(fold: Fold, writer: Writer, **settings: int) -> Refresher:
    assignments = Assignments("topic", WindowSettings(), SimpleNamespace())  # type: ignore[arg-type]
    assignments.current = Assignment(1, {0: fold})
    return Refresher(Settings(**settings), writer, assignments)  # type: ignore[arg-type]


def wake(made: Refresher, fold: Fold, behind: int = 0) -> None:
    fold.behind = behind
    made.wake()


async def until_written(fold: Fold) -> None:
    async with asyncio.timeout(20):
        while fold.committable() < fold.position:
            await asyncio.sleep(0.001)


async def running(made: Refresher, changes: Sequence[Sequence[str]], fold: Fold, behind: int = 0) -> None:
    """Make users dirty, step by step, and return when all their vectors are written."""
    task = asyncio.create_task(made.run())
    for users in changes:
        for user_id in users:
            fold.change(user_id)
        wake(made, fold, behind)
        await asyncio.sleep(0.002)
    wake(made, fold)
    await until_written(fold)
    task.cancel()


@pytest.mark.parametrize("interval_ms", [0, 30])
def test_every_change_is_written_whether_users_rest_or_not(interval_ms: int) -> None:
    fold, writer = Fold(), Writer()
    made = refresher(fold, writer, encode_interval_ms=interval_ms, freshness_ms=0)
    changes = [["hot"], *[["hot", f"user {step}"] for step in range(40)]]
    asyncio.run(running(made, changes, fold))
    written = [user_id for batch in writer.batches for user_id in batch]
    assert sorted(set(written)) == sorted({"hot", *(f"user {step}" for step in range(40))})
    assert len(written) == len(set(written)) + written.count("hot") - 1


def test_worker_that_is_behind_writes_a_user_once_when_it_has_caught_up() -> None:
    fold, writer = Fold(), Writer()
    made = refresher(fold, writer, encode_interval_ms=0, freshness_ms=0)
    asyncio.run(running(made, [["u"]] * 150, fold, behind=10_000_000))
    assert [user_id for batch in writer.batches for user_id in batch] == ["u"]


def test_worker_that_is_behind_is_busy_although_nobody_is_due() -> None:
    fold = Fold()
    made = refresher(fold, Writer())
    states = []
    for behind in (0, 10_000_000, 0):
        wake(made, fold, behind)
        states.append(made.is_busy())
    assert states == [False, True, False]


def test_nobody_rests_where_room_becomes_short() -> None:
    fold, writer = Fold(), Writer()
    made = refresher(fold, writer, encode_interval_ms=1_000_000, waiting_users=2)
    asyncio.run(running(made, [["u"]] * 150, fold))
    assert len(writer.batches) >= 2


def test_finishing_does_not_wait_for_resting_users() -> None:
    async def stop() -> None:
        made = refresher(fold, writer, encode_interval_ms=1_000_000)
        for _ in range(2):
            fold.change("u")
            wake(made, fold)
            await made.finish(made._assignments.current)

    fold, writer = Fold(), Writer()
    asyncio.run(stop())
    assert writer.batches == [["u"], ["u"]]
    assert fold.committable() == fold.position == 2


def test_full_batch_does_not_wait_for_the_deadline() -> None:
    async def fill() -> None:
        made = refresher(fold, writer, batch_users=2, freshness_ms=1_000_000)
        made._last_encode_s = 1_000.0
        task = asyncio.create_task(made.run())
        fold.change("u")
        wake(made, fold)
        await asyncio.sleep(0.02)
        assert not writer.batches
        fold.change("v")
        wake(made, fold)
        await until_written(fold)
        task.cancel()

    fold, writer = Fold(), Writer()
    asyncio.run(fill())
    assert writer.batches == [["u", "v"]]


def test_a_batch_that_had_to_wait_for_a_cpu_holds_up_no_other() -> None:
    class Starved(Writer):
        def rows(self, windows: Sequence[tuple[str, bytes]], versions: Collection[str] = ()) -> list[str]:
            time.sleep(0.2)  # of which no CPU knows
            return super().rows(windows, versions)

    fold, writer = Fold(), Starved()
    made = refresher(fold, writer)
    asyncio.run(running(made, [["u"]], fold))
    assert 0 < made._last_encode_s < 0.1


async def _until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not is_so():
            await asyncio.sleep(0.001)


def test_a_batch_is_encoded_while_another_is_written_and_nobody_is_in_both() -> None:
    async def fill() -> None:
        made = refresher(fold, writer, encode_interval_ms=0, freshness_ms=0)
        task = asyncio.create_task(made.run())
        fold.change("u")
        wake(made, fold)
        await _until(lambda: writer.encoded == [["u"]])
        for user_id in ("u", "v"):
            fold.change(user_id)
        wake(made, fold)
        await _until(lambda: writer.encoded == [["u"], ["v"]])
        await asyncio.sleep(0.02)
        assert not writer.batches
        assert fold.committable() == 0
        writer.is_free.set()
        await until_written(fold)
        task.cancel()

    fold, writer = Fold(), SlowRedis()
    asyncio.run(fill())
    assert writer.batches == writer.encoded == [["u"], ["v"], ["u"]]


def test_who_was_forgotten_while_the_turn_was_awaited_is_not_backfilled() -> None:
    async def forget() -> None:
        made = refresher(fold, writer)
        fold.change("other")
        wake(made, fold)
        finishing = asyncio.create_task(made.finish(made._assignments.current))
        await _until(lambda: writer.encoded == [["other"]])
        again = asyncio.create_task(
            made.backfill(made._assignments.current, [("u", window), ("v", window)], ())
        )
        await asyncio.sleep(0)
        fold._windows["u"] = window_to_bytes(Window("topic", 0, 7))
        writer.is_free.set()
        await again
        await finishing

    fold, writer = Fold(), SlowRedis()
    window = fold.window("u")
    asyncio.run(forget())
    assert writer.batches == [["other"], ["v"]]


def test_a_failure_of_either_turn_ends_the_run() -> None:
    class Broken(Writer):
        def write(self, rows: Sequence[str], forgotten: Sequence[tuple[str, int]]) -> int:
            raise RuntimeError("broken")

    async def fail() -> None:
        made = refresher(fold, Broken())
        fold.change("u")
        wake(made, fold)
        async with asyncio.timeout(60):
            await made.run()

    fold = Fold()
    with pytest.raises(RuntimeError, match="broken"):
        asyncio.run(fail())
