"""Changed users -> vectors in Redis: batches that grow with the load, retried for as long as it takes."""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import numpy as np
import redis
import tenacity

from models.windows.window import is_empty
from stream import metrics
from stream.encoding.encode_interval import EncodeInterval
from stream.encoding.live_models import LiveModels
from stream.encoding.overlap import Overlap
from stream.settings import Settings
from stream.store.vector_store import UserRow
from stream.windows.partition import DirtyUser, Partition

logger = logging.getLogger(__name__)

#: The shortest and the longest pause between two looks whether a user who rests is due (s).
SHORTEST_NAP_S, LONGEST_NAP_S = 0.001, 0.1
#: While fewer than a full batch of users are due, there are at most so many batches in a user's rest.
BATCHES_PER_INTERVAL = 20
#: Batches under way at once: one is encoded while the one before is written.
BATCHES = 2
#: Whoever is to be written again waits this long at most for the batch before (s).
TURN_TIMEOUT_S = 1.0

#: Seconds between two looks whether a model that this worker can encode with is there.
NO_MODEL_REST_S = 0.1


@dataclass(frozen=True, slots=True)
class EncodedBatch:
    """Users taken together, and what is to be written of them."""

    users: Sequence[tuple[Partition, str]]
    rows: Sequence[UserRow]
    #: Users to delete, each with the source offset that said so.
    forgotten: Sequence[tuple[str, int]]
    #: When they were taken (monotonic), and how often retries had been given up by then.
    taken_at: float
    given_up: int


@dataclass(frozen=True, slots=True)
class Work:
    """How long something took (s), and for how much of that a CPU worked at it."""

    took_s: float = 0.0
    cpu_s: float = 0.0


class Refresher:
    """Takes the dirty users of all partitions, encodes and writes them; used from the event loop alone.

    Without `live_models` it only forgets who is dirty: a worker that keeps windows alone.
    """

    def __init__(
        self,
        settings: Settings,
        live_models: LiveModels | None,
        partitions: Mapping[int, Partition],
    ) -> None:
        #: Why Redis was last refused, and since when (monotonic); empty while it answers.
        self.redis_error = ""
        self.redis_error_since = 0.0
        self._settings = settings
        self._live_models = live_models
        self._partitions = partitions
        self._encode_interval = EncodeInterval(settings.encode_interval_ms / 1000)
        #: Events of each partition that are still to be read.
        self._behind: dict[int, int] = {}
        self._has_dirty = asyncio.Event()
        self._has_full_batch = asyncio.Event()
        self._has_room = asyncio.Event()
        self._overlap = Overlap()
        self._last_batch_s = 0.0
        #: Dirty users whom the last batch left because they rest.
        self._resting = 0
        #: How often retries were given up.
        self._given_up = 0

    def waiting(self) -> int:
        """Return how many users' vectors do not know all of their windows yet."""
        return sum(len(fold.dirty) + len(fold.in_flight) for fold in self._partitions.values())

    def wake(self, partition: int, behind: int) -> None:
        """Notice that users of a partition may have become dirty, and that it has `behind` events to read."""
        self._behind[partition] = behind
        self._encode_interval.fall_behind(sum(self._behind.get(each, 0) for each in self._partitions))
        if self._live_models is None:
            for fold in self._partitions.values():
                fold.dirty.clear()
        elif any(fold.dirty for fold in self._partitions.values()):
            self._has_dirty.set()
        if self.is_batch_full():
            self._has_full_batch.set()
        metrics.dirty_users.set(self.waiting())

    async def room(self) -> None:
        """Wait until some users are done, or retries are given up."""
        self._has_room.clear()
        await self._has_room.wait()

    async def run(self) -> None:
        """Encode changed users for ever, in batches that grow with the load, one while another is written."""
        if self._live_models:
            await asyncio.gather(*[self._run(self._live_models) for _ in range(BATCHES)])

    async def _run(self, live_models: LiveModels) -> None:
        encode, write = partial(self._encode_due, live_models), partial(self._write, live_models)
        while True:
            await self._has_dirty.wait()
            if live_models.why_not():
                await asyncio.sleep(NO_MODEL_REST_S)
            elif not await self._overlap.take(encode, write) and self._has_dirty.is_set():
                # All who wait are resting, or being written.
                await asyncio.sleep(
                    min(max(self._encode_interval.interval_s / 4, SHORTEST_NAP_S), LONGEST_NAP_S)
                )

    async def _encode_due(self, live_models: LiveModels) -> EncodedBatch | None:
        """Gather users who are due for as long as the deadline allows, and encode them."""
        await self._gather()
        # Where reading would soon have to pause for want of room, nobody rests.
        is_crowded = 2 * self.waiting() >= self._settings.waiting_users
        return await self._encode(live_models, _always if is_crowded else self._encode_interval.judge())

    async def _gather(self) -> None:
        """Wait until a batch is full, but no longer than the deadline allows.

        As long as the last batch took: under light traffic encoding never takes more than half of a core, and
        nobody waits longer than a batch takes anyway. Longer while users rest longer, who would else be due
        a few at a time.
        """
        self._has_full_batch.clear()
        if not self.is_batch_full():
            pause_s = min(self._last_batch_s, self._settings.freshness_ms / 2000)
            rest_s = min(self._encode_interval.interval_s / BATCHES_PER_INTERVAL, LONGEST_NAP_S)
            with suppress(TimeoutError):
                async with asyncio.timeout(max(pause_s, rest_s)):
                    await self._has_full_batch.wait()

    def is_batch_full(self) -> bool:
        """Return whether as many changed users are due as are encoded together."""
        dirty = sum(len(fold.dirty) for fold in self._partitions.values())
        return dirty - self._resting >= self._settings.batch_users

    def is_busy(self) -> bool:
        """Return whether live traffic needs all there is: a full batch is due, or reading is behind."""
        return self._encode_interval.is_behind() or self.is_batch_full()

    async def finish(self) -> None:
        """Encode and write all that is dirty, unless Redis refuses, and wait for the batches in flight."""
        live = self._live_models
        while live and self._has_dirty.is_set() and not self.redis_error and not live.why_not():
            if not await self._overlap.take(partial(self._encode, live, _always), partial(self._write, live)):
                await self._overlap.written()
        await self._overlap.written()

    def give_up_retries(self) -> None:
        """Let a write that Redis refuses fail, and let whoever waits for room go on."""
        self._given_up += 1
        self._has_room.set()

    async def backfill(self, users: Sequence[tuple[str, bytes]], versions: Collection[str]) -> Work:
        """Encode and write these users with some live models between two batches; return what that took.

        Raises redis.RedisError, and TimeoutError where the batch before does not get done: Redis is away.
        """
        if self._live_models is None:
            return Work()
        async with self._overlap.alone(TURN_TIMEOUT_S):
            write = partial(_backfill, self._live_models, self._newest(users), versions)
            return await asyncio.to_thread(_timed, write)

    def _newest(self, users: Sequence[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
        """Return these users' windows as they are by now, without those of forgotten users.

        One who was forgotten while the turn was awaited may be deleted from Redis already, and must not
        come back.
        """
        newest = []
        for user_id, value in users:
            in_memory = (fold.peek(user_id) for fold in self._partitions.values())
            window = next((each for each in in_memory if each is not None), value)
            if not is_empty(window):
                newest.append((user_id, window))
        return newest

    async def write_cold_start(self, version: str, categories: Sequence[str] = ("",)) -> Work:
        """Write what a cold-start user gets of a live model at these categories; return what that took.

        Raises what `backfill` does.
        """
        if self._live_models is None:
            return Work()
        async with self._overlap.alone(TURN_TIMEOUT_S):
            write = partial(self._live_models.write_cold_start, version, categories)
            return await asyncio.to_thread(_timed, write)

    async def _encode(self, live_models: LiveModels, is_due: Callable[[str], bool]) -> EncodedBatch | None:
        """Take a batch of dirty users who are due, and encode them; None where there is none."""
        taken_at, given_up = time.monotonic(), self._given_up
        users = self._take(is_due)
        if not any(fold.dirty for fold in self._partitions.values()):
            self._has_dirty.clear()
        if not users:
            return None
        metrics.batch_users.observe(len(users))
        windows = [(user_id, fold.window(user_id)) for fold, user_id in users]
        # Only a forgotten user's window is empty.
        forgotten = [
            (user_id, fold.position - 1)
            for (fold, user_id), (_, window) in zip(users, windows, strict=True)
            if is_empty(window)
        ]
        windows = [each for each in windows if not is_empty(each[1])]
        with metrics.stage_seconds.labels("encode").time():
            rows = await asyncio.to_thread(live_models.rows, windows)
        return EncodedBatch(users, rows, forgotten, taken_at, given_up)

    async def _write(self, live_models: LiveModels, batch: EncodedBatch) -> None:
        """Write a batch until that works or retries are given up."""
        with metrics.stage_seconds.labels("upsert").time():
            is_written = await self._upsert(live_models, batch)
        if is_written:
            self._finish(batch.users)
        self._last_batch_s = time.monotonic() - batch.taken_at

    def _take(self, is_due: Callable[[str], bool]) -> list[tuple[Partition, str]]:
        users: list[tuple[Partition, str]] = []
        # The partition with the fewest waiting first: what it leaves of its share goes to the others.
        folds = sorted(self._partitions.values(), key=lambda fold: len(fold.dirty))
        for place, fold in enumerate(folds):
            share = (self._settings.batch_users - len(users)) // (len(folds) - place)
            users += [(fold, user_id) for user_id in fold.take(max(share, 1), _idle(fold, is_due))]
        is_full = len(users) >= self._settings.batch_users
        self._resting = 0 if is_full else sum(len(fold.dirty) for fold in folds)
        self._encode_interval.note(user_id for _, user_id in users)
        return users

    async def _upsert(self, live_models: LiveModels, batch: EncodedBatch) -> bool:
        """Write the rows, trying until retries are given up; return whether that worked."""
        # It refers to itself, so until Python looks for garbage it keeps what it was given: not the rows.
        given_up, written = batch.given_up, 0
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type(redis.RedisError),
            wait=tenacity.wait_random_exponential(multiplier=0.05, max=2),
            stop=lambda _: self._given_up != given_up,
            before_sleep=self._on_redis_error,
        )
        try:
            async for attempt in retrying:
                with attempt:
                    written = await asyncio.to_thread(live_models.write, batch.rows, batch.forgotten)
        except tenacity.RetryError:
            return False
        self.redis_error = ""
        metrics.upserts_total.labels("written").inc(written)
        metrics.upserts_total.labels("stale").inc(len(batch.rows) - written)
        return True

    def _on_redis_error(self, state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        if not self.redis_error:
            self.redis_error_since = time.monotonic()
            logger.warning("Redis refuses vectors (%s); they wait, and nothing is committed meanwhile", error)
        self.redis_error = str(error)
        metrics.upserts_total.labels("retried").inc()

    def _finish(self, users: Sequence[tuple[Partition, str]]) -> None:
        done: list[DirtyUser] = [fold.in_flight.pop(user_id) for fold, user_id in users]
        sent_at_ms = np.array([sent for user in done for sent in user.sent_at_ms], dtype=np.float64)
        metrics.event_to_vector_seconds.observe(np.maximum(time.time() - sent_at_ms / 1000, 0.0))
        metrics.encodes_saved_total.inc(sum(user.events for user in done) - len(done))
        metrics.dirty_users.set(self.waiting())
        self._has_room.set()


def _idle(fold: Partition, is_due: Callable[[str], bool]) -> Callable[[str], bool]:
    """Return a function that says whether a user is due, and not under way: writes keep their order."""
    return lambda user_id: user_id not in fold.in_flight and is_due(user_id)


def _backfill(live_models: LiveModels, users: Sequence[tuple[str, bytes]], versions: Collection[str]) -> None:
    live_models.write(live_models.rows(users, versions))


def _timed(step: Callable[[], None]) -> Work:
    started, cpu_started = time.monotonic(), time.thread_time()
    step()
    return Work(time.monotonic() - started, time.thread_time() - cpu_started)


def _always(_: str) -> bool:
    return True
