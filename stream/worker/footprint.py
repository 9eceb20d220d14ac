"""How many bytes a user takes, of a few users: what servers and disks must have for a million of them."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from statistics import fmean

import redis

from stream import metrics
from stream.windows.assignment import Assignment
from stream.windows.partition import Partition
from stream.windows.table import WindowTable

logger = logging.getLogger(__name__)

#: Seconds between two measurements.
MEASURE_EVERY_S = 30.0

#: Users of a partition who are looked at: those that were used last.
USERS = 20

#: Returns how many bytes Redis has of each of these users who has any.
BytesInRedis = Callable[[Sequence[str]], list[int]]


class Footprint:
    """Measures for `twintide_bytes_per_user`; from the event loop."""

    def __init__(self, table: WindowTable, bytes_in_redis: BytesInRedis | None) -> None:
        """`bytes_in_redis` is None for a worker that keeps windows alone."""
        self._table = table
        self._bytes_in_redis = bytes_in_redis

    async def measure(self, assignment: Assignment) -> None:
        """Measure what the assignment holds; what cannot be told keeps its last value."""
        partitions = {} if assignment.is_over else assignment.partitions
        windows: dict[str, bytes] = {}
        for partition in partitions.values():
            windows |= _sample(partition)
        _show("changelog", [len(user_id.encode()) + len(value) for user_id, value in windows.items()])
        users = sum(map(self._table.count, partitions))
        if users:
            _show("rocksdb", [sum(map(self._table.bytes, partitions)) / users])
        if self._bytes_in_redis:
            try:
                _show("redis", await asyncio.to_thread(self._bytes_in_redis, list(windows)))
            except redis.RedisError as error:  # away, which the writer says, or this user may not ask
                logger.debug("bytes of users in Redis: %s", error)


def _sample(partition: Partition) -> dict[str, bytes]:
    """Return the windows of some users."""
    found = {user_id: partition.peek(user_id) for user_id in partition.in_memory()[-USERS:]}
    return {user_id: value for user_id, value in found.items() if value is not None}


def _show(where: str, sizes: Sequence[float]) -> None:
    if sizes:
        metrics.bytes_per_user.labels(where).set(fmean(sizes))
