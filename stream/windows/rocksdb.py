"""RocksDB for the table: all partitions share one budget of memory, and what is damaged is begun anew."""

import logging
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import rocksdict
from faust.stores.rocksdb import RocksDBOptions

from models.errors import TwintideError

logger = logging.getLogger(__name__)

#: The changelog is the log: what a crash takes from memory, the offset in the same batch with it, is restored
#: from there.
WITHOUT_LOG = rocksdict.WriteOptions()
WITHOUT_LOG.disable_wal = True

#: Bytes that one partition gathers before it writes a file.
WRITE_BUFFER_BYTES = 16 << 20

#: What RocksDB says of files that are not as it wrote them, or not there: a disk failed, or lost its power.
_DAMAGE = re.compile("Corruption|No such file or directory")


class DamagedError(TwintideError):
    """The database of a partition is damaged; the next start removes it, and restores its windows."""


@contextmanager
def noticing_damage(path: Path) -> Iterator[None]:
    """Have the next start begin a database anew where what is done with it finds it damaged.

    Raises DamagedError.
    """
    try:
        yield
    except Exception as error:  # rocksdict knows no narrower
        if not _DAMAGE.search(str(error)):
            raise
        _mark(path).touch()
        raise DamagedError(
            f"{path} is damaged ({error}): the next start restores its windows from the changelog"
        ) from error


def _mark(path: Path) -> Path:
    """Return the file that says of a database that it is damaged."""
    return path.with_name(f"{path.name}.damaged")


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
        """Return the opened database of one partition; one that is damaged is empty."""
        reason = "as was found before" if _mark(path).exists() else ""
        try:
            if not reason:
                return rocksdict.Rdict(str(path), options=self.as_options())
        except Exception as error:  # rocksdict knows no narrower
            if not _DAMAGE.search(str(error)):
                raise
            reason = str(error)
        logger.warning(
            "%s is damaged (%s): it is removed, and its windows are restored from the changelog", path, reason
        )
        shutil.rmtree(path, ignore_errors=True)
        _mark(path).unlink(missing_ok=True)
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
