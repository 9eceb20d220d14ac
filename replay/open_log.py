"""Opening a log to be replayed: in memory where it is small, else sorted on the disk."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from models.log.behaviour_log import read_behaviour_log
from models.log.content import kind_of
from models.log.files import LogFile, find_files
from models.log.format import LogFormat
from replay.log_on_disk import LogOnDisk
from replay.ordered_log import LogInMemory, OrderedLog
from replay.selection import Selection

#: A log of more text than this is sorted on the disk (bytes).
MEMORY_BYTES = 256 << 20
#: How many times larger compressed text or Parquet may become.
EXPANSION = 6


@contextmanager
def opened_log(paths: Sequence[str], log_format: LogFormat, selection: Selection) -> Iterator[OrderedLog]:
    """Give the chosen rows of a log in time order; DataError where it cannot be read or none is chosen."""
    if sum(map(_text_bytes, find_files(paths))) <= MEMORY_BYTES:
        yield LogInMemory(read_behaviour_log(paths, log_format), selection)
        return
    with LogOnDisk(paths, log_format, selection) as log:
        yield log


def version_of(paths: Sequence[str]) -> object:
    """Return what changes when a log does: of each file its name, its size and when it was written."""
    return [(file.name, file.size, file.written_ns) for file in find_files(paths)]


def _text_bytes(file: LogFile) -> int:
    """Return about how many bytes of text a file holds."""
    return file.size * (EXPANSION if kind_of(file) else 1)
