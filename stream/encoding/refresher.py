"""Changed users -> vectors in Redis: in batches that grow with the load, encoded and written in turns."""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import numpy as np

from models.windows.window import is_empty
from stream import metrics
from stream.encoding.due import DueUsers, TakenUsers
from stream.encoding.live_models import LiveModels
from stream.encoding.overlap import Overlap
from stream.encoding.writer import EncodedBatch, VectorWriter
from stream.settings import Settings
from stream.store.user_row import UserRow
from stream.tracing import Trace, Written, epoch_s
from stream.windows.assignment import Assignment, Assignments

logger = logging.getLogger(__name__)

#: The shortest and the longest pause before a user who rests is thought of again (s).
SHORTEST_NAP_S, LONGEST_NAP_S = 0.001, 0.1
#: While fewer than a full batch of users are due, there are at most so many batches in a user's rest.
BATCHES_PER_INTERVAL = 20
#: Batches under way at once: one is encoded while the one before is written.
BATCHES = 2
#: A backfill waits this long at most for the batch before (s).
TURN_TIMEOUT_S = 1.0

#: Pause before another try where this worker can encode with no live model (s).
NO_MODEL_REST_S = 0.1


@dataclass(frozen=True, slots=True)
class Work:
    """How long something took (s), and for how much of that a CPU worked at it."""

    took_s: float = 0.0
    cpu_s: float = 0.0


class Refresher:
    """Takes the dirty users of all partitions, encodes and writes them; used from the event loop alone."""

    def __init__(
        self,
        settings: Settings,
        live_models: LiveModels,
        assignments: Assignments,
        trace: Trace | None = None,
    ) -> None:
        self._trace = trace
        self.writer = VectorWriter(live_models)
        self._settings = settings
        self._live_models = live_models
        self._assignments = assignments
        self._due = DueUsers(settings)
        self._has_dirty = asyncio.Event()
        self._has_full_batch = asyncio.Event()
        self._overlap = Overlap()
        #: For how long a CPU worked at the last encode (s).
        self._last_encode_s = 0.0

    # -- the way of a changed user

    def wake(self) -> None:
        """Notice that events were folded: users may have become dirty."""
        assignment = self._assignments.current
        self._due.note_read(assignment)
        if assignment.dirty():
            self._has_dirty.set()
        if self._due.is_batch_full(assignment):
            self._has_full_batch.set()

    async def run(self) -> None:
        """Encode changed users for ever, in batches that grow with the load, one while another is written."""
        await asyncio.gather(*[self._run() for _ in range(BATCHES)])

    async def _run(self) -> None:
        while True:
            await self._has_dirty.wait()
            if self._live_models.why_not():
                await asyncio.sleep(NO_MODEL_REST_S)
            elif not await self._overlap.take(self._encode_due, self._write) and self._has_dirty.is_set():
                # All who wait are resting, or being written.
                await asyncio.sleep(min(max(self._due.interval_s / 4, SHORTEST_NAP_S), LONGEST_NAP_S))

    async def _encode_due(self) -> EncodedBatch | None:
        """Gather users who are due for as long as the deadline allows, and encode them."""
        await self._gather()
        assignment = self._assignments.current
        return await self._encode(assignment, self._due.take(assignment))

    async def _gather(self) -> None:
        """Wait until a batch is full, but no longer than the deadline allows.

        As long as a CPU worked at the last encode: under light traffic encoding never takes more than half of
        a core. How long the last batch took says nothing: after one that waited for a CPU, or for Redis, the
        next would wait for nothing. Longer while users rest longer, who would else be due a few at a time.
        """
        self._has_full_batch.clear()
        if not self._due.is_batch_full(self._assignments.current):
            pause_s = min(self._last_encode_s, self._settings.freshness_ms / 2000)
            rest_s = min(self._due.interval_s / BATCHES_PER_INTERVAL, LONGEST_NAP_S)
            with suppress(TimeoutError):
                async with asyncio.timeout(max(pause_s, rest_s)):
                    await self._has_full_batch.wait()

    async def _encode(self, assignment: Assignment, users: TakenUsers) -> EncodedBatch | None:
        """Encode these users' windows; None where there are none."""
        taken_at = time.monotonic()
        if not self._assignments.current.dirty():
            self._has_dirty.clear()
        if not users:
            return None
        metrics.batch_users.observe(len(users))
        windows = [(user_id, partition.window(user_id)) for partition, user_id in users]
        # Only a forgotten user's window is empty.
        forgotten = [
            (user_id, partition.position - 1)
            for (partition, user_id), (_, window) in zip(users, windows, strict=True)
            if is_empty(window)
        ]
        windows = [each for each in windows if not is_empty(each[1])]
        with metrics.stage_seconds.labels("encode").time():
            rows, self._last_encode_s = await asyncio.to_thread(self._timed_rows, windows)
        return EncodedBatch(assignment, users, rows, forgotten, taken_at, time.monotonic())

    def _timed_rows(self, windows: Sequence[tuple[str, bytes]]) -> tuple[list[UserRow], float]:
        started = time.thread_time()
        return self._live_models.rows(windows), time.thread_time() - started

    async def _write(self, batch: EncodedBatch) -> None:
        """Write a batch until that works or its assignment is over."""
        with metrics.stage_seconds.labels("upsert").time():
            is_written = await self.writer.write(batch)
        if is_written:
            _note_written(batch)
            if self._trace:
                self._trace.add(_passed(batch, self.writer.written_at))

    async def finish(self, assignment: Assignment) -> None:
        """Encode and write all that is dirty, unless Redis refuses, and wait for the batches in flight.

        For an assignment that is over: Redis is asked once for each batch.
        """
        encode = partial(self._encode_any, assignment)
        while assignment.dirty() and not self.writer.redis_error and not self._live_models.why_not():
            waiting = assignment.waiting()
            if not await self._overlap.take(encode, self._write):
                await self._overlap.written()
                if assignment.waiting() == waiting:
                    return  # users whose last write failed, and who cannot be taken again
        await self._overlap.written()

    async def _encode_any(self, assignment: Assignment) -> EncodedBatch | None:
        return await self._encode(assignment, self._due.take_any(assignment))

    # -- writes from state, in the same turns

    def is_busy(self) -> bool:
        """Return whether live traffic needs all there is: a full batch is due, or reading is behind."""
        return self._due.is_busy(self._assignments.current)

    async def backfill(
        self, assignment: Assignment, users: Sequence[tuple[str, bytes]], versions: Collection[str]
    ) -> Work:
        """Encode and write these users with some live models between two batches; return what that took.

        Raises redis.RedisError, and TimeoutError where the batch before does not get done: Redis is down.
        """
        async with self._overlap.alone(TURN_TIMEOUT_S):
            newest = _newest(assignment, users)
            return await asyncio.to_thread(_timed, lambda: self._write_rows(newest, versions))

    def _write_rows(self, users: Sequence[tuple[str, bytes]], versions: Collection[str]) -> None:
        self._live_models.write(self._live_models.rows(users, versions))

    async def write_cold_start(self, version: str, categories: Sequence[str] = ("",)) -> Work:
        """Write a live model's vectors of cold-start users at these categories; return what that took.

        Raises what `backfill` does.
        """
        async with self._overlap.alone(TURN_TIMEOUT_S):
            write = partial(self._live_models.write_cold_start, version, categories)
            return await asyncio.to_thread(_timed, write)


def _newest(assignment: Assignment, users: Sequence[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """Return these users' windows as they are by now, without those of forgotten users.

    One who was forgotten while the turn was awaited may be deleted from Redis already, and must not come
    back.
    """
    windows = ((user_id, assignment.peek(user_id) or value) for user_id, value in users)
    return [(user_id, window) for user_id, window in windows if not is_empty(window)]


def _note_written(batch: EncodedBatch) -> None:
    """Take a batch's users out of flight, and measure how fresh their vectors are."""
    done = [partition.in_flight.pop(user_id) for partition, user_id in batch.users]
    sent_at_ms = np.array([sent for user in done for sent in user.sent_at_ms], dtype=np.float64)
    partitions = np.repeat(
        [partition.partition for partition, _ in batch.users], [len(user.sent_at_ms) for user in done]
    )
    metrics.event_to_vector_seconds.observe(np.maximum(time.time() - sent_at_ms / 1000, 0.0), partitions)
    metrics.encodes_saved_total.inc(sum(user.events for user in done) - len(done))
    metrics.dirty_users.set(batch.assignment.waiting())
    batch.assignment.note_progress()


def _passed(batch: EncodedBatch, written_at: float) -> Written:
    users = [(partition.partition, user_id) for partition, user_id in batch.users]
    return Written(users, epoch_s(batch.taken_at), epoch_s(batch.encoded_at), epoch_s(written_at))


def _timed(step: Callable[[], None]) -> Work:
    started, cpu_started = time.monotonic(), time.thread_time()
    step()
    return Work(time.monotonic() - started, time.thread_time() - cpu_started)
