"""Dropping users who were not seen for long: a window as old as the horizon says nothing about its user.

Time is event time: the newest that the partition has brought, never the clock's. A sweep goes through a
partition's windows in small portions, one a checkpoint. The Redis key goes first, so that no crash can leave
it behind; then the next checkpoint writes the tombstone and deletes the row.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import redis

from models.windows.window import read_header
from stream.encoding.live_models import LiveModels
from stream.windows.partition import Partition
from stream.windows.table import WindowTable

logger = logging.getLogger(__name__)

#: Windows of a partition that one step looks at.
PORTION = 1_000


@dataclass(frozen=True, slots=True)
class SweepSettings:
    """What is old, and how often to look."""

    #: A window whose newest event is this much older than the partition's newest is swept (ms).
    horizon_ms: int
    #: Seconds between two sweeps; 0: never.
    every_s: float


class Sweeper:
    """Looks at one portion of every partition a step, and at all of them once in `every_s`."""

    def __init__(
        self,
        table: WindowTable,
        live_models: LiveModels | None,
        settings: SweepSettings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._table = table
        self._live_models = live_models
        self._settings = settings
        self._clock = clock
        self._due_at = clock() + settings.every_s
        #: The last key looked at, of the partitions that are not through yet.
        self._places: dict[int, bytes] = {}

    async def step(self, partitions: Mapping[int, Partition]) -> None:
        """Look at the next portion of every partition, and drop what is old in it.

        No checkpoint may run meanwhile: a user who comes back would not be known as changed any more.
        """
        if self._settings.every_s and self._clock() >= self._due_at:
            self._due_at = self._clock() + self._settings.every_s
            self._places = dict.fromkeys(partitions, b"")
        for partition, place in list(self._places.items()):
            fold = partitions.get(partition)
            if fold is None:
                del self._places[partition]
                continue
            try:
                await self._sweep(fold, place)
            except redis.RedisError as error:
                logger.warning("old users stay until Redis answers (%s)", error)
                return

    async def _sweep(self, fold: Partition, place: bytes) -> None:
        rows = await asyncio.to_thread(self._table.scan, fold.partition, place, PORTION)
        if not rows:
            del self._places[fold.partition]
            return
        # What is not committed yet may come again, and would make a window anew.
        last_offset, oldest_ms = fold.committable() - 1, fold.newest_ms - self._settings.horizon_ms
        old = []
        for key, value in rows:
            window, user_id = read_header(value), key.decode()
            is_committed = window.topic_id != fold.topic_id or window.offset <= last_offset
            if window.newest_ms < oldest_ms and is_committed and not fold.is_in_use(user_id):
                old.append(user_id)
        if old and self._live_models is not None:
            await asyncio.to_thread(self._live_models.forget, [(user_id, last_offset) for user_id in old])
        fold.drop(old)
        self._places[fold.partition] = rows[-1][0]
        if old:
            logger.info("dropped %d users of partition %d not seen for long", len(old), fold.partition)
