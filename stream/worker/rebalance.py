"""What happens on a rebalance, and when a worker stops.

Giving partitions away (`drain`), before the group lets others have them:

1. their assignment is over: batches, backfills, sweeps and retried writes ask, and begin nothing more
2. users who are dirty are encoded and written, once, unless Redis refuses
3. a last checkpoint makes their windows durable, and offsets are committed
4. nothing is held

2 and 3 have a time budget. What it does not suffice for is not committed, and so comes again to the next
owner, who has Kafka refuse whatever is still under way to the changelog (stream/windows/changelog.py).

Getting partitions: Faust restores their windows (stream/windows/recovery.py) and goes to the committed
offsets (`BatchConsumer.perform_seek`), which begins another assignment (`Assignments.begin`).
"""

import asyncio
import logging

from stream import metrics
from stream.encoding.refresher import Refresher
from stream.windows.assignment import Assignment, Assignments
from stream.windows.changelog import Changelog
from stream.worker.commits import Commits
from stream.worker.source import Source

logger = logging.getLogger(__name__)


class Rebalance:
    """Gives away what is held; used from the event loop alone."""

    def __init__(
        self,
        drain_s: float,
        assignments: Assignments,
        commits: Commits,
        changelog: Changelog,
        refresher: Refresher | None,
    ) -> None:
        """`drain_s` is the time budget (s)."""
        self._drain_s = drain_s
        self._assignments = assignments
        self._commits = commits
        self._changelog = changelog
        self._refresher = refresher

    async def drain(self, source: Source) -> None:
        """Finish what is in flight within the budget, commit, and hold nothing."""
        assignment = self._assignments.current
        assignment.end()
        try:
            async with asyncio.timeout(self._drain_s):
                await self._finish(source, assignment)
        except TimeoutError:
            logger.warning("not all was finished in %g s; what is left comes again", self._drain_s)
        finally:
            self._changelog.release()
            metrics.consumer_lag_events.clear()
            self._assignments.drop()

    async def _finish(self, source: Source, assignment: Assignment) -> None:
        if self._refresher is not None:
            await self._refresher.finish(assignment)
        async with assignment.lock:
            await self._commits.commit(source, assignment)
