"""The pipeline: a fetched batch -> windows that know its events, and users whose vectors are due.

    fold ──> dirty users ──> encode ──> Redis ──┐
      └────> changed windows ──> checkpoint ────┴──> commit

Folding and encoding overlap: while one batch of users is encoded and written in a thread, the next events are
folded and their users wait, each once however often it changes. The right-hand side is commits.py.
"""

import logging
import time

from stream import metrics
from stream.encoding.refresher import Refresher
from stream.events.incoming import Incoming
from stream.tracing import Folded, Trace
from stream.windows.assignment import Assignment
from stream.worker.dead_letters import DeadLetters
from stream.worker.source import FetchedBatch, Source

logger = logging.getLogger(__name__)


class Pipeline:
    """Takes fetched batches, one at a time for each partition; used from the event loop alone."""

    def __init__(
        self,
        waiting_users: int,
        dead_letters: DeadLetters,
        refresher: Refresher | None,
        trace: Trace | None = None,
    ) -> None:
        """`waiting_users` may wait for their vectors; `refresher` is None for a worker of windows alone."""
        self._trace = trace
        self._waiting_users = waiting_users
        self._dead_letters = dead_letters
        self._refresher = refresher

    async def process(self, source: Source, number: int, batch: FetchedBatch) -> None:
        """Fold a batch of a partition as soon as there is room for the users it changes.

        A batch of an assignment that is over is left out: its records come again. What cannot be read goes
        to the dead letters first, so that no offset is behind one that could not be sent.
        """
        assignment = batch.assignment
        while assignment.waiting() >= self._waiting_users and not assignment.is_over:
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
        self._reject(number, batch.incoming)
        begun = time.time()
        with metrics.stage_seconds.labels("fold").time():
            counts = partition.apply(batch.incoming)
        if self._trace:
            incoming = batch.incoming
            times = incoming.fetched_s, incoming.read_s, begun, time.time()
            self._trace.add(Folded(number, incoming.position, *times))
        for outcome, count in counts.items():
            # A redelivery is a duplicate to whoever counts events.
            metrics.events_total.labels("duplicate" if outcome == "redelivered" else outcome).inc(count)
        metrics.events_total.labels("duplicate").inc(batch.incoming.moved)
        metrics.events_total.labels("skipped").inc(batch.incoming.skipped)
        if batch.incoming.timestamp_ms > 0:
            metrics.event_time_lag_seconds.set(time.time() - batch.incoming.timestamp_ms / 1000)
        partition.behind = source.lag(number, partition.position)
        self._wake(assignment)

    def _wake(self, assignment: Assignment) -> None:
        if self._refresher is not None:
            self._refresher.wake()
            return
        for partition in assignment.partitions.values():
            partition.dirty.clear()

    def _reject(self, number: int, incoming: Incoming) -> None:
        rejected = incoming.rejected
        if not rejected:
            return
        self._dead_letters.send(number, rejected)
        first = rejected[0]
        logger.warning(
            "%d unreadable events of partition %d went to %s; the first: offset %d, %s, %.200r",
            *(len(rejected), number, self._dead_letters.name),
            *(first.record.offset(), first.reason, (first.record.value() or b"")[:200]),
        )
