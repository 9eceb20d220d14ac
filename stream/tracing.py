"""When batches pass the stages of a worker: a line of JSON for each, to find what slow events wait for."""

import logging
import time
from collections.abc import Iterable
from io import FileIO
from pathlib import Path

import msgspec

from models.errors import SettingsError

logger = logging.getLogger(__name__)


class Folded(msgspec.Struct, frozen=True, tag="folded"):
    """A batch of a partition, up to `position`; times are epoch s.

    fetched: it was there; read: it was columns; begun, ended: the fold.
    """

    partition: int
    position: int
    fetched: float
    read: float
    begun: float
    ended: float


class Written(msgspec.Struct, frozen=True, tag="written"):
    """Users encoded together, by partition; times are epoch s.

    taken: their windows were taken; encoded: they were rows; written: Redis has them.
    """

    users: list[tuple[int, str]]
    taken: float
    encoded: float
    written: float


class Trace:
    """Adds lines to a file; used from the event loop alone, and costs it some 20 us a batch.

    It ends, with a line in the log, where the disk takes no more: a worker goes on without.
    """

    def __init__(self, path: Path) -> None:
        """Raises SettingsError where nothing can be written there."""
        try:
            self._file: FileIO | None = path.open("ab", buffering=0)
        except OSError as error:
            raise SettingsError(f"TWINTIDE_TRACE: {path} cannot be written ({error.strerror})") from error
        self._path = path

    def close(self) -> None:
        """Add no more."""
        if self._file:
            self._file.close()
            self._file = None

    def add(self, passed: Folded | Written) -> None:
        """Add what a batch has passed."""
        if self._file is None:
            return
        try:
            self._file.write(msgspec.json.encode(passed) + b"\n")
        except OSError as error:
            logger.warning("%s cannot be written any more (%s): the trace ends", self._path, error.strerror)
            self.close()


def read_trace(path: Path) -> tuple[list[Folded], list[Written]]:
    """Return what a trace holds, each in order; a line that is not whole yet is left out."""
    lines = path.read_bytes().rpartition(b"\n")[0].splitlines()
    passed: Iterable[Folded | Written] = (msgspec.json.decode(line, type=Folded | Written) for line in lines)
    folded: list[Folded] = []
    written: list[Written] = []
    for each in passed:
        if isinstance(each, Folded):
            folded.append(each)
        else:
            written.append(each)
    return folded, written


def open_trace(path: str) -> Trace | None:
    """Return the trace that is asked for, None for none."""
    return Trace(Path(path)) if path else None


def epoch_s(monotonic_s: float) -> float:
    """Return a time of the monotonic clock as one of the wall's."""
    return time.time() - (time.monotonic() - monotonic_s)
