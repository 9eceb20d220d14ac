"""The pipeline: a fetched batch -> windows that know its events, and users whose vectors are due.

    fold ──> dirty users ──> encode ──> Redis ──┐
      └────> changed windows ──> checkpoint ────┴──> commit

Folding and encoding overlap: while one batch of users is encoded and written in a thread, the next events are
folded and their users wait, each once however often it changes. The right-hand side is commits.py.
"""

import logging
import time
from collections.abc import Sequence

from stream import metrics
from stream.encoding.refresher import Refresher
from stream.events.incoming import Rejected
from stream.kafka.producer import AcknowledgedProducer
from stream.settings import Settings
from stream.windows.assignment import Assignment
from stream.worker.source import FetchedBatch, Source, Topic

logger = logging.getLogger(__name__)


class Pipeline:
    """Takes fetched batches, one at a time for each partition; used from the event loop alone."""

    def __init__(
        self, settings: Settings, topic: Topic, producer: AcknowledgedProducer, refresher: Refresher | None
    ) -> None:
        """`refresher` is None for a worker that keeps windows alone."""
        self._settings = settings
        self._topic = topic
        self._producer = producer
        self._refresher = refresher

    async def process(self, source: Source, number: int, batch: FetchedBatch) -> None:
        """Fold a batch of a partition as soon as there is room for the users it changes.

        A batch of an assignment that is over is left out: its records come again.
        """
        assignment = batch.assignment
        while assignment.waiting() >= self._settings.waiting_users and not assignment.is_over:
            await assignment.progress()
        if assignment.is_over:
            return
        partition = assignment.partitions[number]
        if not partition.is_next(batch.number):
            logger.warning(
                "a batch of partition %d was lost on its way: reading again from the committed offset", number
            )
            await source.perform_seek()
            return
        with metrics.stage_seconds.labels("fold").time():
            counts = partition.apply(batch.incoming)
        for outcome, count in counts.items():
            # A redelivery is a duplicate to whoever counts events.
            metrics.events_total.labels("duplicate" if outcome == "redelivered" else outcome).inc(count)
        metrics.events_total.labels("skipped").inc(batch.incoming.skipped)
        self._reject(number, batch.incoming.rejected)
        metrics.event_time_lag_seconds.set(time.time() - batch.incoming.timestamp_ms / 1000)
        partition.behind = source.lag(number, partition.position)
        self._wake(assignment)

    def _wake(self, assignment: Assignment) -> None:
        if self._refresher is not None:
            self._refresher.wake()
            return
        for partition in assignment.partitions.values():
            partition.dirty.clear()

    def _reject(self, number: int, rejected: Sequence[Rejected]) -> None:
        for each in rejected:
            metrics.events_total.labels("malformed").inc()
            metrics.dlq_total.labels(each.reason).inc()
            headers = {
                "reason": each.reason,
                "topic": self._topic.name,
                "partition": str(number),
                "offset": str(each.record.offset()),
            }
            self._producer.send(
                self._settings.dead_letter_topic,
                each.record.key(),
                each.record.value(),
                headers=[(name, value.encode()) for name, value in headers.items()],
            )
        if rejected:
            logger.warning(
                "%d unreadable events of partition %d went to %s; the first: offset %d, %s, %.200r",
                *(len(rejected), number, self._settings.dead_letter_topic),
                *(rejected[0].record.offset(), rejected[0].reason, rejected[0].record.value()),
            )
