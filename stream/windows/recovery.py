"""Restoring windows from the changelog in whole batches, with progress.

Stock Faust moves one changelog record at a time through a message, an event and a queue. Here librdkafka
reads the changelog, a fetched batch of a partition is one message too (consumer.py), and this table writes it
with one WriteBatch that holds the changelog offset as well. When to recover, from where and until where stays
Faust's.
"""

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import faust
from rocksdict import WriteBatch

from stream import metrics
from stream.kafka.records import Records
from stream.windows.rocksdb import WITHOUT_LOG, SharedMemoryOptions

logger = logging.getLogger(__name__)

#: Seconds between two lines of progress in the log.
PROGRESS_EVERY_S = 5.0


#: Changelog records written at once, of all partitions: some megabytes.
BATCH_RECORDS = 5_000


@dataclass(frozen=True, slots=True)
class ChangelogBatch:
    """The records that one fetch brought for one partition of a table's changelog, oldest first.

    values: None for a tombstone; last_offset: up to which all is read, ends of transactions included, which
    are no records; timestamp_ms of the last record, epoch ms.
    """

    keys: Sequence[bytes]
    values: Sequence[bytes | None]
    last_offset: int
    timestamp_ms: int


def read_changelog(_: int, records: Records) -> ChangelogBatch:
    """Return what is needed of the records of a partition, and of where it ended."""
    return ChangelogBatch(
        keys=cast(list[bytes], [*records.keys]),
        values=[*records.values],
        last_offset=records.position - 1,
        timestamp_ms=records.each[-1].timestamp()[1] if len(records) else 0,
    )


class RestoreProgress:
    """Counts restored records, and says now and then how far it is."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._records = 0
        self._started = self._said = clock()

    def add(self, records: int, remaining: int) -> None:
        """Count records just restored, `remaining` being left."""
        now = self._clock()
        if now - self._said > 10 * PROGRESS_EVERY_S:  # another recovery than the last
            self._records, self._started, self._said = 0, now, now
        self._records += records
        metrics.recovery_records_total.inc(records)
        metrics.recovery_remaining.set(remaining)
        if now - self._said >= PROGRESS_EVERY_S:
            self._said = now
            rate = self._records / max(now - self._started, 1e-9)
            logger.info(
                "restored %d records, %.0f a second; %d left, about %.0f s",
                *(self._records, rate, remaining, remaining / rate),
            )


class RestoringTable(faust.Table):  # type: ignore[misc]
    """A Faust table of windows that takes changelog batches as the batch consumer delivers them."""

    def __init__(self, *args: Any, **options: Any) -> None:
        # An active partition's batches wait in pairs (with a buffer of one Faust would go on reading the
        # changelog after the recovery), a standby's are written as they come.
        super().__init__(*args, recovery_buffer_size=2, standby_buffer_size=1, **options)
        self._progress = RestoreProgress()

    def _new_store(self) -> Any:
        store = super()._new_store()
        store.rocksdb_options = SharedMemoryOptions(self.app.settings.rocksdb_mb)
        return store

    def apply_changelog_batch(self, batch: Iterable[Any]) -> None:
        """Write buffered changelog events, each of them the records of one fetched batch."""
        for event in batch:
            records = event.message.value
            self._restore(event.message.partition, records)
            remaining = sum(self.app.tables.recovery.active_remaining().values())
            self._progress.add(len(records.keys), max(remaining, 0))

    def _restore(self, partition: int, records: ChangelogBatch) -> None:
        database = self.data._db_for_partition(partition)
        writes = WriteBatch(raw_mode=True)
        for key, value in dict(zip(records.keys, records.values, strict=True)).items():
            if value is None:
                writes.delete(key)
            else:
                writes.put(key, value)
        writes.put(self.data.offset_key, str(records.last_offset).encode())
        database.write(writes, WITHOUT_LOG)
