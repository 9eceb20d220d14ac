"""A worker that is wrong on purpose: it commits source offsets before the changelog has the windows.

`faust -A tests.integration.commit_first worker`. The chaos test must notice.
"""

import asyncio
import time
from typing import Any

from stream import metrics
from stream.app import app
from stream.windows.assignment import Assignment
from stream.windows.partition import Partition
from stream.worker.commits import Commits

__all__ = ["app"]

#: Long enough to be killed in.
BETWEEN_S = 2.0


async def commit_first(self: Any, source: Any, assignment: Assignment) -> None:
    """Do what Commits.commit does, in the wrong order."""
    is_wrong, started = assignment.needs_checkpoint(), time.monotonic()
    await source.commit()
    if is_wrong:  # whoever counts commits must not take one for it that loses nothing
        metrics.stage_seconds.labels("commit").observe(time.monotonic() - started)
    await asyncio.sleep(BETWEEN_S)
    await self._checkpointer.write(assignment)


Commits.commit = commit_first  # type: ignore[method-assign]
Partition.committable = lambda self: self.position  # type: ignore[method-assign]
