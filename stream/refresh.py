"""Changed users -> vectors in Redis: batches that grow with the load, retried for as long as it takes."""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress

import numpy as np
import redis
import tenacity

from models.window import is_empty
from stream import metrics
from stream.damping import Damper
from stream.fold import DirtyUser, PartitionFold
from stream.live_models import LiveModels
from stream.settings import Settings
from stream.store import UserRow

logger = logging.getLogger(__name__)

#: The longest pause between two looks whether a resting user is due (s).
LONGEST_NAP_S = 0.1
#: While fewer than a full batch of users are due, there are at most so many batches in a user's rest.
BATCHES_PER_INTERVAL = 20
#: Whoever is to be written again waits this long at most for the batch before (s).
PATIENCE_S = 1.0

#: Seconds between two looks whether a model that this worker can encode with is there.
NO_MODEL_REST_S = 0.1


class Refresher:
    """Takes the dirty users of all partitions, encodes and writes them; used from the event loop alone.

    Without `live_models` it only forgets who is dirty: a worker that keeps windows alone.
    """

    def __init__(
        self,
        settings: Settings,
        live_models: LiveModels | None,
        partitions: Mapping[int, PartitionFold],
    ) -> None:
        #: Why Redis was last refused, and since when (monotonic); empty while it answers.
        self.redis_error = ""
        self.redis_error_since = 0.0
        self._settings = settings
        self._live_models = live_models
        self._partitions = partitions
        self._damper = Damper(settings.encode_interval_ms / 1000)
        #: Events of each partition that are still to be read.
        self._behind: dict[int, int] = {}
        self._has_dirty = asyncio.Event()
        self._has_full_batch = asyncio.Event()
        self._has_room = asyncio.Event()
        self._encoding = asyncio.Lock()
        self._last_encode_s = 0.0
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
        self._damper.events_behind = sum(self._behind.get(each, 0) for each in self._partitions)
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
        """Encode changed users for ever, in batches that grow with the load."""
        while self._live_models:
            await self._has_dirty.wait()
            if self._live_models.why_not():
                await asyncio.sleep(NO_MODEL_REST_S)
                continue
            await self._gather()
            started = time.monotonic()
            # Where reading would soon have to pause for want of room, nobody rests.
            is_crowded = 2 * self.waiting() >= self._settings.waiting_users
            is_due = _always if is_crowded else self._damper.judge()
            count = await self._encode_batch(self._live_models, is_due)
            self._last_encode_s = time.monotonic() - started
            if not count and self._has_dirty.is_set():  # all who wait are resting
                await asyncio.sleep(min(self._damper.interval_s / 4, LONGEST_NAP_S))

    async def _gather(self) -> None:
        """Wait until a batch is full, but no longer than the deadline allows.

        As long as the last batch took: under light traffic encoding never takes more than half of a core, and
        nobody waits longer than a batch takes anyway. Longer while users rest longer, who would else be due
        a few at a time.
        """
        self._has_full_batch.clear()
        if not self.is_batch_full():
            pause_s = min(self._last_encode_s, self._settings.freshness_ms / 2000)
            rest_s = min(self._damper.interval_s / BATCHES_PER_INTERVAL, LONGEST_NAP_S)
            with suppress(TimeoutError):
                async with asyncio.timeout(max(pause_s, rest_s)):
                    await self._has_full_batch.wait()

    def is_batch_full(self) -> bool:
        """Return whether as many changed users are due as are encoded together."""
        return self.waiting() - self._resting >= self._settings.batch_users

    async def finish(self) -> None:
        """Encode and write all that is dirty, unless Redis refuses, and wait for the batch in flight."""
        live = self._live_models
        while live and self._has_dirty.is_set() and not self.redis_error and not live.why_not():
            await self._encode_batch(live, _always)
        async with self._encoding:
            pass

    def give_up_retries(self) -> None:
        """Let a write that Redis refuses fail, and let whoever waits for room go on."""
        self._given_up += 1
        self._has_room.set()

    async def write_again(self, users: Sequence[tuple[str, bytes]], versions: Collection[str]) -> float:
        """Encode and write these users with some live models between two batches; return the seconds it took.

        Raises redis.RedisError, and TimeoutError where the batch before does not get done: Redis is away.
        """
        if self._live_models is None:
            return 0.0
        async with asyncio.timeout(PATIENCE_S):
            await self._encoding.acquire()
        started = time.monotonic()
        try:
            rows = await asyncio.to_thread(self._live_models.rows, users, versions)
            await asyncio.to_thread(self._live_models.write, rows)
        finally:
            self._encoding.release()
        return time.monotonic() - started

    async def write_unseen(self, version: str) -> None:
        """Write what a user never seen gets of a live model. Raises redis.RedisError."""
        if self._live_models:
            async with self._encoding:
                await asyncio.to_thread(self._live_models.write_unseen, version)

    async def _encode_batch(self, live_models: LiveModels, is_due: Callable[[str], bool]) -> int:
        """Encode and write a batch of dirty users who are due; return how many there were."""
        async with self._encoding:
            users = self._take(is_due)
            if not users:
                if not any(fold.dirty for fold in self._partitions.values()):
                    self._has_dirty.clear()
                return 0
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
            with metrics.stage_seconds.labels("upsert").time():
                is_written = await self._upsert(live_models, rows, forgotten)
            if is_written:
                self._finish(users)
            return len(users)

    def _take(self, is_due: Callable[[str], bool]) -> list[tuple[PartitionFold, str]]:
        users: list[tuple[PartitionFold, str]] = []
        # The partition with the fewest waiting first: what it leaves of its share goes to the others.
        folds = sorted(self._partitions.values(), key=lambda fold: len(fold.dirty))
        for place, fold in enumerate(folds):
            share = (self._settings.batch_users - len(users)) // (len(folds) - place)
            users += [(fold, user_id) for user_id in fold.take(max(share, 1), is_due)]
        is_full = len(users) >= self._settings.batch_users
        self._resting = 0 if is_full else sum(len(fold.dirty) for fold in folds)
        self._damper.note(user_id for _, user_id in users)
        return users

    async def _upsert(
        self, live_models: LiveModels, rows: Sequence[UserRow], forgotten: Sequence[tuple[str, int]]
    ) -> bool:
        """Write the rows, trying until retries are given up; return whether that worked."""
        given_up_before = self._given_up
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type(redis.RedisError),
            wait=tenacity.wait_random_exponential(multiplier=0.05, max=2),
            stop=lambda _: self._given_up != given_up_before,
            before_sleep=self._on_redis_error,
        )
        try:
            written: int = await retrying(asyncio.to_thread, live_models.write, rows, forgotten)
        except tenacity.RetryError:
            return False
        self.redis_error = ""
        metrics.upserts_total.labels("written").inc(written)
        metrics.upserts_total.labels("stale").inc(len(rows) - written)
        return True

    def _on_redis_error(self, state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        if not self.redis_error:
            self.redis_error_since = time.monotonic()
            logger.warning("Redis refuses vectors (%s); they wait, and nothing is committed meanwhile", error)
        self.redis_error = str(error)
        metrics.upserts_total.labels("retried").inc()

    def _finish(self, users: Sequence[tuple[PartitionFold, str]]) -> None:
        done: list[DirtyUser] = [fold.in_flight.pop(user_id) for fold, user_id in users]
        sent_at_ms = np.array([sent for user in done for sent in user.sent_at_ms], dtype=np.float64)
        metrics.event_to_vector_seconds.observe(np.maximum(time.time() - sent_at_ms / 1000, 0.0))
        metrics.encodes_saved_total.inc(sum(user.events for user in done) - len(done))
        metrics.dirty_users.set(self.waiting())
        self._has_room.set()


def _always(_: str) -> bool:
    return True
