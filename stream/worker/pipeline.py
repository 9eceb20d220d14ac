"""The pipeline: everything between a fetched batch and a committed offset, for this worker's partitions.

    fold ──> dirty users ──> encode ──> Redis ──┐
      └────> changed windows ──> checkpoint ────┴──> commit

Folding and encoding overlap: while one batch of users is encoded and written in a thread, the next events are
folded and their users wait, each once however often it changes.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import suppress

from stream import metrics
from stream.encoding.refresher import Refresher
from stream.events.incoming import Rejected
from stream.kafka.producer import AbandonedError
from stream.rollout.backfill import Backfiller
from stream.settings import Settings
from stream.windows.checkpoint import Checkpointer
from stream.windows.partition import Partition
from stream.windows.sweep import Sweeper, SweepSettings
from stream.worker.consumer import FetchedBatch
from stream.worker.freeze_detector import FreezeDetector
from stream.worker.parts import Parts, Source

logger = logging.getLogger(__name__)

#: Looks, between two checkpoints, whether one is worth it already.
TICKS_PER_CHECKPOINT = 10


class Pipeline:
    """Folds, checkpoints and says what may be committed; used from the event loop alone."""

    def __init__(self, settings: Settings, parts: Parts) -> None:
        self.settings = settings
        self.partitions: dict[int, Partition] = {}
        self.refresher = Refresher(settings, parts.live_models, self.partitions)
        #: When offsets were last up to date with what was read (monotonic).
        self.committed_at = time.monotonic()
        #: The positions that were committed when last all were.
        self._committed: dict[int, int] = {}
        self.freeze_detector = FreezeDetector()
        self._parts = parts
        self._checkpointer = Checkpointer(
            parts.publisher, parts.table, timeout_s=60.0, cached_windows=settings.cached_windows
        )
        self._expected: dict[int, tuple[int, int]] = {}
        self._void_seek = -1
        self._checkpointing = asyncio.Lock()
        self._sweeper = Sweeper(
            parts.table,
            parts.live_models,
            SweepSettings(parts.window_settings.horizon_ms, settings.sweep_every_s),
        )
        self.backfiller = Backfiller(
            settings.rewrite_users_per_s,
            self.refresher,
            parts.table,
            self.partitions,
            self._checkpointing,
        )

    @property
    def model_version(self) -> str:
        """Return the version that readers get."""
        return self._parts.live_models.serving if self._parts.live_models else "(none)"

    def why_not_encoding(self) -> str:
        """Return why this worker cannot encode, empty where it can or need not."""
        return self._parts.live_models.why_not() if self._parts.live_models else ""

    @property
    def topic_id(self) -> str:
        """Return the id of the behaviour topic, which is another when it is made again."""
        return self._parts.topic.topic_id

    # -- fold

    async def fold(self, source: Source, partition: int, batch: FetchedBatch) -> None:
        """Fold a batch as soon as there is room for the users it changes."""
        while self.refresher.waiting() >= self.settings.waiting_users and batch.seek != self._void_seek:
            await self.refresher.room()
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
            counts = fold.fold(batch.incoming)
        for outcome, count in counts.items():
            # A redelivery is a duplicate to whoever counts events.
            metrics.events_total.labels("duplicate" if outcome == "redelivered" else outcome).inc(count)
        self._reject(partition, batch.incoming.rejected)
        metrics.event_time_lag_seconds.set(time.time() - batch.incoming.timestamp_ms / 1000)
        self.refresher.wake(partition, source.lag(partition, fold.position))

    def _is_next(self, partition: int, batch: FetchedBatch) -> bool:
        seek, number = self._expected.get(partition, (batch.seek, 0))
        expected = number if seek == batch.seek else 0
        self._expected[partition] = (batch.seek, batch.number + 1)
        return batch.number == expected

    def _partition(self, partition: int) -> Partition:
        if partition not in self.partitions:
            self.partitions[partition] = Partition(
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

    # -- checkpoint

    async def until_checkpoint(self) -> None:
        """Return when a checkpoint is due: at its time, or earlier where nothing more comes.

        Then one makes the windows durable while the last vectors are still written, and another commits as
        soon as they are.
        """
        before = self._committed
        for _ in range(TICKS_PER_CHECKPOINT):
            with suppress(TimeoutError):
                async with asyncio.timeout(self.settings.checkpoint_s / TICKS_PER_CHECKPOINT):
                    while not self._is_commit_due():
                        await self.refresher.room()
                    return
            now = self._positions()
            if now == before != self._committed and self._is_any_to_store():
                return
            before = now

    def _is_commit_due(self) -> bool:
        """Return whether all that was read is durable and written, and not committed."""
        is_known = self._positions() == self._committed or self.freeze_detector.is_in_doubt()
        return not (is_known or self._is_any_to_store() or self.refresher.waiting())

    def _is_any_to_store(self) -> bool:
        return any(fold.needs_checkpoint() for fold in self.partitions.values())

    async def checkpoint(self, source: Source) -> None:
        """Make what is folded durable, and commit the offsets up to which vectors are written too.

        Not while another worker may own the partitions: what was folded then waits, or comes again to them.
        """
        async with self._checkpointing:
            if self.freeze_detector.is_in_doubt():
                return
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
                self.committed_at, self._committed = time.monotonic(), self._positions()

    def _positions(self) -> dict[int, int]:
        return {partition: fold.position for partition, fold in self.partitions.items()}

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
        self.refresher.give_up_retries()
        try:
            async with asyncio.timeout(self.settings.drain_s):
                await self.refresher.finish()
                await self.checkpoint(source)
        except TimeoutError:
            logger.warning("not all was finished in %g s; what is left comes again", self.settings.drain_s)
            self._parts.publisher.abandon()
        finally:
            metrics.consumer_lag_events.clear()
            self.partitions.clear()
            self._expected.clear()
            self._committed = {}
            self.backfiller.assignment += 1
