"""Dropping users who were not seen for long: a window as old as the horizon says nothing about its user.

Time is event time: the newest that the partition has brought, never the clock's. A sweep goes through a
partition's windows in small portions. The Redis key goes first, so that no crash can leave it behind; then
the next checkpoint writes the tombstone and deletes the row.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import redis

from models.windows.window import read_header
from stream.windows.assignment import Assignment
from stream.windows.partition import Partition
from stream.windows.table import WindowTable

logger = logging.getLogger(__name__)

#: Windows of a partition that one step reads.
PORTION = 1_000

#: Deletes the vectors of these (user id, source offset) that are not newer.
DeleteVectors = Callable[[Sequence[tuple[str, int]]], object]


@dataclass(frozen=True, slots=True)
class SweepSettings:
    """What is old, and how often to sweep."""

    #: A window whose newest event is this much older than the partition's newest is swept (ms).
    horizon_ms: int
    #: Seconds between two sweeps; 0: never.
    every_s: float


class Sweeper:
    """Sweeps one portion of every partition a step, and all of them once in `every_s`."""

    def __init__(
        self,
        table: WindowTable,
        delete_vectors: DeleteVectors | None,
        settings: SweepSettings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`delete_vectors` is None for a worker that keeps windows alone."""
        self._table = table
        self._delete_vectors = delete_vectors
        self._settings = settings
        self._clock = clock
        self._due_at = clock() + settings.every_s

    async def step(self, assignment: Assignment) -> None:
        """Read the next portion of every partition, and drop what is old in it.

        No checkpoint may run meanwhile: a user who comes back would not be known as changed any more.
        """
        async with assignment.lock:
            if self._settings.every_s and self._clock() >= self._due_at:
                self._due_at = self._clock() + self._settings.every_s
                for partition in assignment.partitions.values():
                    partition.sweep_place = b""
            for partition in assignment.partitions.values():
                if partition.sweep_place is None or assignment.is_over:
                    continue
                try:
                    partition.sweep_place = await self._sweep(partition, partition.sweep_place)
                except redis.RedisError as error:
                    logger.warning("old users stay until Redis answers (%s)", error)
                    return

    async def _sweep(self, partition: Partition, place: bytes) -> bytes | None:
        """Drop what is old of the portion after `place`; return its last key, None at the end."""
        rows = await asyncio.to_thread(self._table.scan, partition.partition, place, PORTION)
        if not rows:
            return None
        last_offset = partition.committable() - 1
        old = self._old_users(partition, rows, last_offset)
        if old and self._delete_vectors is not None:
            await asyncio.to_thread(self._delete_vectors, [(user_id, last_offset) for user_id in old])
        partition.drop(old)
        if old:
            logger.info("dropped %d users of partition %d not seen for long", len(old), partition.partition)
        return rows[-1][0]

    def _old_users(
        self, partition: Partition, rows: Sequence[tuple[bytes, bytes]], last_offset: int
    ) -> list[str]:
        """Return whose windows are too old.

        What is not committed yet (after `last_offset`) may come again, and would make a window anew.
        """
        oldest_ms, old = partition.newest_ms - self._settings.horizon_ms, []
        for key, value in rows:
            window, user_id = read_header(value), key.decode()
            is_committed = window.topic_id != partition.topic_id or window.offset <= last_offset
            if window.newest_ms < oldest_ms and is_committed and not partition.is_in_use(user_id):
                old.append(user_id)
        return old
