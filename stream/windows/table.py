"""The `windows` table from the side: whole batches in and out of a partition's RocksDB.

Faust's own table writes one key at a time, each with a changelog send and an offset put; a checkpoint writes
all of a partition at once, with the changelog offset in the same WriteBatch. Private API of faust-streaming
0.15.3 used here: `Store._db_for_partition`, `Store.partition_path`, `Store.offset_key`.
"""

import itertools
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, cast

from rocksdict import WriteBatch

from stream.windows.rocksdb import WITHOUT_LOG, noticing_damage


class WindowTable:
    """Reads and writes the partitions of a Faust table that this worker holds."""

    def __init__(self, table: Any) -> None:
        self._table = table

    @property
    def changelog_topic(self) -> str:
        """Return the name of the table's changelog topic."""
        return cast(str, self._table.changelog_topic.get_topic_name())

    def load(self, partition: int, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return the stored values of the keys, None where there is none."""
        with self._noticing_damage(partition):
            return cast(list[bytes | None], self._database(partition).get(list(keys)))

    def write(
        self,
        partition: int,
        values: Mapping[bytes, bytes],
        changelog_offset: int,
        tombstones: Sequence[bytes] = (),
    ) -> None:
        """Delete the tombstones' keys and write the values, whose changelog records end here, at once."""
        batch = WriteBatch(raw_mode=True)
        for key in tombstones:
            batch.delete(key)
        for key, value in values.items():
            batch.put(key, value)
        batch.put(self._table.data.offset_key, str(changelog_offset).encode())
        with self._noticing_damage(partition):
            self._database(partition).write(batch, WITHOUT_LOG)

    def scan(self, partition: int, after: bytes, at_most: int) -> list[tuple[bytes, bytes]]:
        """Return the next stored keys after this one, in order, with their values; empty at the end."""
        with self._noticing_damage(partition):
            rows = self._database(partition).items(from_key=after + b"\0")
            found = list(itertools.islice(rows, at_most + 1))  # one of them may be the offset
        return [(key, value) for key, value in found if key != self._table.data.offset_key][:at_most]

    def count(self, partition: int) -> int:
        """Return about how many keys are stored."""
        return int(self._database(partition).property_int_value("rocksdb.estimate-num-keys") or 0)

    def bytes(self, partition: int) -> int:
        """Return how many bytes the keys and values take, in files and in memory."""
        database = self._database(partition)
        names = ("rocksdb.total-sst-files-size", "rocksdb.cur-size-all-mem-tables")
        return sum(int(database.property_int_value(name) or 0) for name in names)

    def _noticing_damage(self, partition: int) -> AbstractContextManager[None]:
        return noticing_damage(self._table.data.partition_path(partition))

    def _database(self, partition: int) -> Any:
        # Never kept: Faust closes a partition's database by dropping its own reference.
        return self._table.data._db_for_partition(partition)
