"""The `windows` table from the side: whole batches in and out of a partition's RocksDB.

Faust's own table writes one key at a time, each with a changelog send and an offset put; a checkpoint writes
all of a partition at once, with the changelog offset in the same WriteBatch. Private API of faust-streaming
0.15.3 used here: `Store._db_for_partition`, `Store.offset_key`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from rocksdict import WriteBatch


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
        return cast(list[bytes | None], self._database(partition).get(list(keys)))

    def write(self, partition: int, values: Mapping[bytes, bytes], changelog_offset: int) -> None:
        """Write the values, and the changelog offset up to which this store is complete, at once."""
        batch = WriteBatch(raw_mode=True)
        for key, value in values.items():
            batch.put(key, value)
        batch.put(self._table.data.offset_key, str(changelog_offset).encode())
        self._database(partition).write(batch)

    def _database(self, partition: int) -> Any:
        # Never kept: Faust closes a partition's database by dropping its own reference.
        return self._table.data._db_for_partition(partition)
