"""RocksDB for the table: all partitions of a worker share one budget of memory."""

from pathlib import Path
from typing import Any

import rocksdict
from faust.stores.rocksdb import RocksDBOptions

#: The changelog is the log: what a crash takes from memory, the offset in the same batch with it, is restored
#: from there.
WITHOUT_LOG = rocksdict.WriteOptions()
WITHOUT_LOG.disable_wal = True

#: Bytes that one partition gathers before it writes a file.
WRITE_BUFFER_BYTES = 16 << 20


class SharedMemoryOptions(RocksDBOptions):  # type: ignore[misc]
    """Faust's RocksDB options, with one block cache that all partitions' write buffers are charged to.

    Faust's own give every partition 2 GiB of cache and 192 MiB of write buffers.
    """

    def __init__(self, budget_mb: int) -> None:
        super().__init__(use_rocksdict=True)
        budget = budget_mb << 20
        self._cache = rocksdict.Cache(budget)
        self._write_buffers = rocksdict.WriteBufferManager.new_write_buffer_manager_with_cache(
            budget // 2, False, self._cache
        )

    def open(self, path: Path, *, read_only: bool = False) -> Any:
        """Return the opened database of one partition."""
        return rocksdict.Rdict(str(path), options=self.as_options())

    def as_options(self) -> Any:
        """Return the options of one partition."""
        blocks = rocksdict.BlockBasedOptions()
        blocks.set_block_cache(self._cache)
        blocks.set_bloom_filter(10, False)
        options = rocksdict.Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_block_based_table_factory(blocks)
        options.set_compression_type(rocksdict.DBCompressionType.lz4())
        options.set_write_buffer_size(WRITE_BUFFER_BYTES)
        options.set_write_buffer_manager(self._write_buffers)
        return options
