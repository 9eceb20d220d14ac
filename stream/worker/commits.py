"""Committing source offsets: when it is due, and only what is durable and written.

A checkpoint makes changed windows durable (stream/windows/checkpoint.py); the offsets up to which vectors are
written too are committed at once. There is one a second, and one as soon as nothing else is to be read.
"""

import asyncio
import logging
import time
from contextlib import suppress

from stream import metrics
from stream.windows.assignment import Assignment, Assignments
from stream.windows.changelog import AbandonedError, FencedError
from stream.windows.checkpoint import Checkpointer
from stream.worker.source import Source

logger = logging.getLogger(__name__)

#: Between two checkpoints it is asked so often whether one is worth it already.
TICKS_PER_CHECKPOINT = 10

#: The group has told a worker that it lost its partitions by then (s): a session and a rebalance.
FENCED_TOO_LONG_S = 45.0


class Commits:
    """Checkpoints and commits what is held; from the event loop, `uncommitted_s` from any thread."""

    def __init__(self, checkpoint_s: float, assignments: Assignments, checkpointer: Checkpointer) -> None:
        """`checkpoint_s` is the time between two checkpoints under load (s)."""
        self._checkpoint_s = checkpoint_s
        self._assignments = assignments
        self._checkpointer = checkpointer
        #: The positions when last all that was read was committed.
        self._committed: dict[int, int] = {}
        #: All that was read by then (monotonic) is committed; the positions to be committed next, and when
        #: they were reached. Under load there is no moment at which all is committed.
        self._committed_at = self._due_at = time.monotonic()
        self._due: dict[int, int] = {}
        #: Of which assignment another worker has taken a partition, and since when (monotonic).
        self._fenced: tuple[Assignment | None, FencedError | None, float] = (None, None, 0.0)

    async def run(self, source: Source) -> None:
        """Checkpoint and commit for ever."""
        while True:
            await self.until_due()
            await self.checkpoint(source)

    async def until_due(self) -> None:
        """Return when a checkpoint is due: at its time, or earlier where nothing more comes.

        Then one makes the windows durable while the last vectors are still written, and another commits as
        soon as they are.
        """
        before = self._committed
        for _ in range(TICKS_PER_CHECKPOINT):
            assignment, tick_s = self._assignments.current, self._checkpoint_s / TICKS_PER_CHECKPOINT
            if assignment.is_over:
                await asyncio.sleep(tick_s)
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(tick_s):
                    while not assignment.is_over:
                        if self._is_committable(assignment):
                            return
                        await assignment.progress()
            now = assignment.positions()
            if now == before != self._committed and assignment.needs_checkpoint():
                return
            before = now

    def _is_committable(self, assignment: Assignment) -> bool:
        """Return whether all that was read is durable and written, and not committed yet."""
        is_known = assignment.positions() == self._committed
        return not (is_known or assignment.needs_checkpoint() or assignment.waiting())

    async def checkpoint(self, source: Source) -> None:
        """Make durable and commit what is held, unless it is being given away: then the drain does that."""
        assignment = self._assignments.current
        async with assignment.lock:
            if not assignment.is_over:
                await self.commit(source, assignment)

    async def commit(self, source: Source, assignment: Assignment) -> None:
        """Make what is folded durable, and commit the offsets up to which vectors are written too.

        The assignment's lock is held. Nothing happens after anything failed half-way, nor once another worker
        has taken a partition: then what was folded comes again to that one. Raises FencedError where the
        group does not say so within FENCED_TOO_LONG_S.
        """
        if assignment.is_spoilt:
            self._wait_for_group(assignment)
            return
        try:
            await self._checkpointer.write(assignment)
        except FencedError as error:
            assignment.spoil()
            self._fenced = assignment, error, time.monotonic()
            logger.warning("%s: this worker was away for too long, and waits for the group to say so", error)
            return
        except AbandonedError as error:
            logger.warning("%s; they come again", error)
            return
        except Exception:
            assignment.spoil()  # of what it should have made durable, nobody knows what is
            raise
        now, positions = time.monotonic(), assignment.positions()
        written = {number: each.committable() for number, each in assignment.partitions.items()}
        with metrics.stage_seconds.labels("commit").time():
            await source.commit()
        for number, partition in assignment.partitions.items():
            lag = source.lag(number, partition.position)
            metrics.consumer_lag_events.labels(str(number)).set(lag)
        if written == positions:
            self._committed = self._due = positions
            self._due_at = now
        if all(written.get(number, offset) >= offset for number, offset in self._due.items()):
            self._committed_at, self._due, self._due_at = self._due_at, positions, now

    def _wait_for_group(self, assignment: Assignment) -> None:
        fenced, error, since = self._fenced
        if assignment is fenced and error and time.monotonic() - since > FENCED_TOO_LONG_S:
            raise error

    def uncommitted_s(self) -> float:
        """Return for how long something that was read has not been committed, at most."""
        return time.monotonic() - self._committed_at if self._assignments.current.partitions else 0.0
