"""The fast lane: everything between a fetched batch and a committed offset, for this worker's partitions.

    fold ──> dirty users ──> encode ──> Redis ──┐
      └────> changed windows ──> checkpoint ────┴──> commit

Folding and encoding overlap: while one batch of users is encoded and written in a thread, the next events are
folded and their users wait, each once however often it changes.
"""

import asyncio
import logging
import time
from collections.abc import Sequence

import numpy as np
import redis
import tenacity

from stream import metrics
from stream.checkpoint import Checkpointer
from stream.consumer import Batch
from stream.fold import DirtyUser, PartitionFold, Rejected
from stream.parts import Parts, Source, Vectors
from stream.publisher import AbandonedError
from stream.settings import Settings
from stream.store import UserRow
from stream.sweep import Sweeper, SweepSettings

logger = logging.getLogger(__name__)


class FastLane:
    """Folds, encodes, checkpoints and says what may be committed; used from the event loop alone."""

    def __init__(self, settings: Settings, parts: Parts) -> None:
        self.settings = settings
        self.partitions: dict[int, PartitionFold] = {}
        #: Why Redis was last refused, and since when (monotonic); empty while it answers.
        self.redis_error = ""
        self.redis_error_since = 0.0
        #: When offsets were last up to date with what was read (monotonic).
        self.committed_at = time.monotonic()
        self._parts = parts
        self._checkpointer = Checkpointer(
            parts.publisher, parts.table, timeout_s=60.0, cached_windows=settings.cached_windows
        )
        self._expected: dict[int, tuple[int, int]] = {}
        self._void_seek = -1
        self._has_dirty = asyncio.Event()
        self._has_room = asyncio.Event()
        self._encoding = asyncio.Lock()
        self._checkpointing = asyncio.Lock()
        self._sweeper = Sweeper(
            parts.table,
            parts.vectors.store if parts.vectors else None,
            SweepSettings(parts.topic.epoch, parts.window_settings.horizon_ms, settings.sweep_every_s),
        )
        self._last_encode_s = 0.0

    @property
    def model_version(self) -> str:
        """Return the version of the artifact in use."""
        return self._parts.vectors.encoder.artifact.version if self._parts.vectors else "(none)"

    # -- fold

    async def fold(self, source: Source, partition: int, batch: Batch) -> None:
        """Fold a batch as soon as there is room for the users it changes."""
        while self._waiting() >= self.settings.waiting_users and batch.seek != self._void_seek:
            self._has_room.clear()
            await self._has_room.wait()
        if batch.seek != source.seek_count or batch.seek == self._void_seek:
            return  # fetched before the last seek, which brings these records again
        if not self._is_next(partition, batch):
            logger.warning(
                "a batch of partition %d was lost on its way: reading again from the committed offset",
                partition,
            )
            await source.perform_seek()
            return
        fold = self._partition(partition)
        with metrics.stage_seconds.labels("fold").time():
            counts, rejected = fold.fold(batch.records, self._parts.decode)
        for outcome, count in counts.items():
            # A redelivery is a duplicate to whoever counts events.
            metrics.events_total.labels("duplicate" if outcome == "redelivered" else outcome).inc(count)
        self._reject(partition, rejected)
        metrics.event_time_lag_seconds.set(time.time() - batch.records[-1].timestamp()[1] / 1000)
        if self._parts.vectors is None:
            fold.dirty.clear()
        elif fold.dirty:
            self._has_dirty.set()
        metrics.dirty_users.set(self._waiting())

    def _is_next(self, partition: int, batch: Batch) -> bool:
        seek, number = self._expected.get(partition, (batch.seek, 0))
        expected = number if seek == batch.seek else 0
        self._expected[partition] = (batch.seek, batch.number + 1)
        return batch.number == expected

    def _partition(self, partition: int) -> PartitionFold:
        if partition not in self.partitions:
            self.partitions[partition] = PartitionFold(
                self._parts.topic.topic_id,
                partition,
                self._parts.window_settings,
                lambda keys: self._parts.table.load(partition, keys),
            )
        return self.partitions[partition]

    def _reject(self, partition: int, rejected: Sequence[Rejected]) -> None:
        for each in rejected:
            metrics.events_total.labels("malformed").inc()
            metrics.dlq_total.labels(each.reason).inc()
            headers = {
                "reason": each.reason,
                "topic": self._parts.topic.name,
                "partition": str(partition),
                "offset": str(each.record.offset()),
            }
            self._parts.publisher.send(
                self.settings.dead_letter_topic,
                each.record.key(),
                each.record.value(),
                headers=[(name, value.encode()) for name, value in headers.items()],
            )
        if rejected:
            logger.warning(
                "%d unreadable events of partition %d went to %s; the first: offset %d, %s, %.200r",
                *(len(rejected), partition, self.settings.dead_letter_topic),
                *(rejected[0].record.offset(), rejected[0].reason, rejected[0].record.value()),
            )

    # -- encode

    async def encode_forever(self) -> None:
        """Encode changed users, in batches that grow with the load."""
        while self._parts.vectors:
            await self._has_dirty.wait()
            if self._waiting() < self.settings.batch_users:
                # Rest as long as the last batch took: under light traffic encoding never takes more than half
                # of a core, and nobody waits longer than a batch takes anyway.
                await asyncio.sleep(min(self._last_encode_s, self.settings.freshness_ms / 2000))
            started = time.monotonic()
            await self._encode_batch(self._parts.vectors)
            self._last_encode_s = time.monotonic() - started

    async def _encode_batch(self, vectors: Vectors) -> None:
        async with self._encoding:
            users = self._take()
            if not users:
                self._has_dirty.clear()
                return
            metrics.batch_users.observe(len(users))
            windows = [(user_id, fold.window(user_id).snapshot()) for fold, user_id in users]
            # Only a forgotten user's window is empty.
            forgotten = [
                (user_id, fold.position - 1)
                for (fold, user_id), (_, window) in zip(users, windows, strict=True)
                if not len(window)
            ]
            windows = [each for each in windows if len(each[1])]
            with metrics.stage_seconds.labels("encode").time():
                rows = await asyncio.to_thread(vectors.encoder.rows, windows, self._parts.topic.epoch)
            for tower in ("short", "long"):
                metrics.encoded_users_total.labels(tower).inc(len(rows))
            with metrics.stage_seconds.labels("upsert").time():
                is_written = await self._upsert(vectors, rows, forgotten)
            if is_written:
                self._finish(users)

    def _take(self) -> list[tuple[PartitionFold, str]]:
        users: list[tuple[PartitionFold, str]] = []
        # The partition with the fewest waiting first: what it leaves of its share goes to the others.
        folds = sorted(self.partitions.values(), key=lambda fold: len(fold.dirty))
        for place, fold in enumerate(folds):
            share = (self.settings.batch_users - len(users)) // (len(folds) - place)
            users += [(fold, user_id) for user_id in fold.take(max(share, 1))]
        return users

    async def _upsert(
        self, vectors: Vectors, rows: Sequence[UserRow], forgotten: Sequence[tuple[str, int]]
    ) -> bool:
        """Write the rows, trying for as long as these partitions are ours; return whether that worked."""
        seek_void_before = self._void_seek
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type(redis.RedisError),
            wait=tenacity.wait_random_exponential(multiplier=0.05, max=2),
            stop=lambda _: self._void_seek != seek_void_before,
            before_sleep=self._on_redis_error,
        )
        try:
            written: int = await retrying(
                asyncio.to_thread, vectors.write, rows, forgotten, self._parts.topic.epoch
            )
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
        metrics.dirty_users.set(self._waiting())
        self._has_room.set()

    def _waiting(self) -> int:
        return sum(len(fold.dirty) + len(fold.in_flight) for fold in self.partitions.values())

    # -- checkpoint

    async def checkpoint(self, source: Source) -> None:
        """Make what is folded durable, and commit the offsets up to which vectors are written too."""
        async with self._checkpointing:
            try:
                await self._checkpointer.write(self.partitions)
            except AbandonedError as error:
                logger.warning("%s; they come again", error)
                return
            with metrics.stage_seconds.labels("commit").time():
                await source.commit()
            for partition, fold in self.partitions.items():
                lag = source.lag(partition, fold.position)
                metrics.consumer_lag_events.labels(str(partition)).set(lag)
            if all(fold.committable() == fold.position for fold in self.partitions.values()):
                self.committed_at = time.monotonic()

    async def sweep(self) -> None:
        """Drop some users who were not seen for longer than the horizon; the next checkpoint writes it."""
        async with self._checkpointing:
            await self._sweeper.step(self.partitions)

    def committable(self, partition: int) -> int | None:
        """Return the source offset of a partition that may be committed, None where there is none yet."""
        fold = self.partitions.get(partition)
        return fold.committable() if fold is not None and fold.committable() > 0 else None

    def uncommitted_s(self) -> float:
        """Return for how long something that was read has not been committed."""
        return time.monotonic() - self.committed_at if self.partitions else 0.0

    async def drain(self, source: Source) -> None:
        """Finish what is in flight within the budget, commit, and forget all partitions.

        What the budget does not suffice for is not committed, and so comes again to the next owner.
        """
        self._void_seek = source.seek_count
        self._has_room.set()
        try:
            async with asyncio.timeout(self.settings.drain_s):
                while self._parts.vectors and self._has_dirty.is_set() and not self.redis_error:
                    await self._encode_batch(self._parts.vectors)
                async with self._encoding:  # the batch in flight, if there is one
                    await self.checkpoint(source)
        except TimeoutError:
            logger.warning("not all was finished in %g s; what is left comes again", self.settings.drain_s)
            self._parts.publisher.abandon()
        finally:
            metrics.consumer_lag_events.clear()
            self.partitions.clear()
            self._expected.clear()
