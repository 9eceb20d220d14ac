"""A worker that is wrong on purpose: it commits source offsets before the changelog has the windows.

`faust -A tests.integration.commit_first worker`. The chaos test must notice.
"""

import asyncio
from typing import Any

from stream import metrics
from stream.app import app
from stream.fold import PartitionFold
from stream.lane import FastLane

__all__ = ["app"]

#: Long enough to be killed in.
BETWEEN_S = 2.0


async def commit_first(self: Any, source: Any) -> None:
    """Do what FastLane.checkpoint does, in the wrong order."""
    async with self._checkpointing:
        with metrics.stage_seconds.labels("commit").time():
            await source.commit()
        await asyncio.sleep(BETWEEN_S)
        await self._checkpointer.write(self.partitions)


FastLane.checkpoint = commit_first
PartitionFold.committable = lambda self: self.position
