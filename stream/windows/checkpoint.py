"""Making folded windows durable: changelog first, then RocksDB; only then may source offsets be committed.

The order is the guarantee. A crash between any two steps leaves the source offsets behind the state, and
events that come again are recognised by the offset inside their user's window.
"""

import asyncio
from collections.abc import Mapping

from stream import metrics
from stream.kafka.producer import AcknowledgedProducer
from stream.windows.assignment import Assignment
from stream.windows.partition import Snapshot
from stream.windows.table import WindowTable


class Checkpointer:
    """Writes what changed since the last checkpoint, for all partitions together."""

    def __init__(
        self, producer: AcknowledgedProducer, table: WindowTable, timeout_s: float, cached_windows: int
    ) -> None:
        self._producer = producer
        self._table = table
        self._timeout_s = timeout_s
        self._cached_windows = cached_windows

    async def write(self, assignment: Assignment) -> None:
        """Make all that is folded durable; the assignment's lock is held.

        Raises PublishError where Kafka did not take it: the worker must then stop. Raises AbandonedError,
        with nothing stored, where the partitions were given away meanwhile.

        Dead letters are sent through the same producer as soon as they are found, so the acknowledgement that
        this waits for covers them too.
        """
        partitions = assignment.partitions
        snapshots = {
            number: partition.snapshot()
            for number, partition in partitions.items()
            if partition.needs_checkpoint()
        }
        if not snapshots:
            return
        with metrics.stage_seconds.labels("changelog").time():
            offsets = await self._send(snapshots)
        with metrics.stage_seconds.labels("rocksdb").time():
            await asyncio.to_thread(self._store, snapshots, offsets)
        for partition, snapshot in snapshots.items():
            partitions[partition].durable_position = snapshot.position
            partitions[partition].trim(self._cached_windows)

    async def _send(self, snapshots: Mapping[int, Snapshot]) -> dict[tuple[str, int], int]:
        for partition, snapshot in snapshots.items():
            for key in snapshot.tombstones:
                self._producer.send(self._table.changelog_topic, key, None, partition=partition)
            for key, value in snapshot.values.items():
                self._producer.send(self._table.changelog_topic, key, value, partition=partition)
        return await self._producer.delivered(self._timeout_s)

    def _store(self, snapshots: Mapping[int, Snapshot], offsets: Mapping[tuple[str, int], int]) -> None:
        for partition, snapshot in snapshots.items():
            if snapshot.values or snapshot.tombstones:
                changelog_offset = offsets[self._table.changelog_topic, partition]
                self._table.write(partition, snapshot.values, changelog_offset, snapshot.tombstones)
