"""Opening a log to be replayed: in memory where it is small, else sorted on the disk."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from models.log.behaviour_log import read_behaviour_log
from models.log.files import find_files
from models.log.format import LogFormat
from replay.ordered_log import LogInMemory, OrderedLog
from replay.selection import Selection


@contextmanager
def opened_log(paths: Sequence[str], log_format: LogFormat, selection: Selection) -> Iterator[OrderedLog]:
    """Give the chosen rows of a log in time order; DataError where it cannot be read or none is chosen."""
    yield LogInMemory(read_behaviour_log(paths, log_format), selection)


def version_of(paths: Sequence[str]) -> object:
    """Return what changes when a log does: of each file its name, its size and when it was written."""
    return [(file.name, file.size, file.written_ns) for file in find_files(paths)]
