"""A batch is tried until Redis takes it; whether Redis refuses is said while it does, and no longer."""

import asyncio
import time
from types import SimpleNamespace
from typing import Any

import pytest
import redis

from stream import metrics
from stream.encoding.writer import EncodedBatch, VectorWriter


class FakeModels:
    """Writes to a Redis that refuses the first of them."""

    def __init__(self, assignment: Any, refused: int, ends_after: int = 10**6) -> None:
        self._assignment, self._refused, self._ends_after = assignment, refused, ends_after
        self.tries = 0

    def write(self, rows: Any, forgotten: Any) -> int:
        self.tries += 1
        self._assignment.is_over = self.tries >= self._ends_after
        if self.tries <= self._refused:
            raise redis.OutOfMemoryError("command not allowed when used memory > 'maxmemory'.")
        return 0


def batch_of(assignment: Any) -> EncodedBatch:
    return EncodedBatch(assignment, [], [], [], time.monotonic())


def refuses() -> float:
    return float(metrics.redis_refuses._value.get())


def test_batch_is_tried_until_redis_takes_it_and_meanwhile_that_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    assignment: Any = SimpleNamespace(is_over=False)
    models: Any = FakeModels(assignment, refused=4)
    writer = VectorWriter(models)

    async def write() -> tuple[bool, list[tuple[float, bool]]]:
        writing, seen = asyncio.create_task(writer.write(batch_of(assignment))), list[tuple[float, bool]]()
        while not writing.done():
            writer.note_poll()  # of another key, which Redis may take though it refuses the batch
            if 0 < models.tries <= 4 and writer.redis_error:
                seen.append((refuses(), "maxmemory" in writer.redis_error))
            await asyncio.sleep(0.005)
        return await writing, seen

    is_written, seen = asyncio.run(write())
    assert is_written and models.tries == 5 and set(seen) == {(1.0, True)}
    assert (writer.redis_error, refuses()) == ("", 0.0)
    first, last = caplog.messages
    assert first.startswith("Redis refuses vectors (command not allowed") and last.startswith("Redis takes")


def test_worker_without_partitions_hears_that_redis_is_back() -> None:
    assignment: Any = SimpleNamespace(is_over=False)
    models: Any = FakeModels(assignment, refused=9, ends_after=2)
    writer = VectorWriter(models)
    assert not asyncio.run(writer.write(batch_of(assignment)))
    assert "maxmemory" in writer.redis_error and refuses() == 1
    writer.note_poll()
    assert (writer.redis_error, refuses()) == ("", 0.0)
