"""Making folded windows durable: changelog first, then RocksDB; only then may source offsets be committed.

The order is the guarantee. A crash between any two steps leaves the source offsets behind the state, and
events that come again are recognised by the offset inside their user's window.
"""

import asyncio
from collections.abc import Mapping

from stream import metrics
from stream.kafka.producer import AcknowledgedProducer
from stream.windows.assignment import Assignment
from stream.windows.changelog import Changelog, Row
from stream.windows.partition import Snapshot
from stream.windows.table import WindowTable


class Checkpointer:
    """Writes what changed since the last checkpoint, for all partitions together."""

    def __init__(
        self,
        changelog: Changelog,
        dead_letters: AcknowledgedProducer,
        table: WindowTable,
        timeout_s: float,
        cached_windows: int,
    ) -> None:
        self._changelog = changelog
        self._dead_letters = dead_letters
        self._table = table
        self._timeout_s = timeout_s
        self._cached_windows = cached_windows

    async def write(self, assignment: Assignment) -> None:
        """Make all that is folded durable; the assignment's lock is held.

        Raises PublishError where Kafka did not take it: the worker must then stop. Raises AbandonedError,
        with nothing stored, where the partitions were given away meanwhile, and FencedError, which is one,
        where another worker has taken them.

        Dead letters are sent as soon as they are found: this waits until Kafka has acknowledged them.
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
            await self._dead_letters.delivered(self._timeout_s)
            offsets = await self._send(snapshots)
        with metrics.stage_seconds.labels("rocksdb").time():
            await asyncio.to_thread(self._store, snapshots, offsets)
        for partition, snapshot in snapshots.items():
            partitions[partition].durable_position = snapshot.position
            partitions[partition].trim(self._cached_windows)

    async def _send(self, snapshots: Mapping[int, Snapshot]) -> dict[int, int]:
        rows: dict[int, list[Row]] = {
            partition: [*((key, None) for key in snapshot.tombstones), *snapshot.values.items()]
            for partition, snapshot in snapshots.items()
        }
        return await self._changelog.write(
            {number: some for number, some in rows.items() if some}, self._timeout_s
        )

    def _store(self, snapshots: Mapping[int, Snapshot], offsets: Mapping[int, int]) -> None:
        for partition, offset in offsets.items():
            snapshot = snapshots[partition]
            self._table.write(partition, snapshot.values, offset, snapshot.tombstones)
