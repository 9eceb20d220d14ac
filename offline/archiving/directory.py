"""The directory of an archive: a portion of rows gets in whole or not at all, with how far the topic is read.

A portion's files are written into `_pending-N`. It counts as soon as `_progress.json`, replaced in one step,
says that N portions are in the archive. Then the files move to their days. Whoever opens the archive next
finishes such a move, and throws away what does not count.
"""

import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from models.errors import DataError, TwintideError
from models.log.times import DAY_MS

#: What readers of such a directory leave out begins with an underscore or a dot.
PROGRESS, LOCK, PENDING = "_progress.json", "_lock", "_pending-"


class Progress(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How far an archive is, and what came of every record up to there."""

    topic: str
    #: Kafka's id of the topic: another one after the topic is deleted and made again.
    topic_id: str = ""
    #: By partition, the offset of the next record to read.
    offsets: Mapping[int, int] = {}
    #: How many portions are in the archive; each has one file in each of its days.
    portions: int = 0
    rows: int = 0
    #: Records that could not be used, by reason, and requests to forget a user.
    rejected: Mapping[str, int] = {}
    forgets: int = 0
    #: Records that the topic no longer had when they were to be read.
    lost: int = 0


class Archive:
    """An archive that nobody else writes to; see `opened`."""

    def __init__(self, path: Path, topic: str) -> None:
        self.path = path
        self.progress = _read_progress(path, topic)
        self._settle()

    def add(self, rows: Any, progress: Progress) -> None:
        """Add rows, an Arrow table of `rows.SCHEMA`, and note the progress that they make."""
        number = self.progress.portions + 1
        pending = self.path / f"{PENDING}{number}"
        for day, of_day in _by_day(rows):
            file = pending / f"day={day}" / f"part-{number:08d}.parquet"
            file.parent.mkdir(parents=True)
            pq.write_table(of_day, file, compression="zstd")
            _sync(file)
            _sync(file.parent)
        if pending.exists():
            _sync(pending)
            _sync(self.path)
        self._note(msgspec.structs.replace(progress, portions=number))
        self._settle()

    def _note(self, progress: Progress) -> None:
        """Have the progress count, at once and for good."""
        file = self.path / f"{PROGRESS}.new"
        file.write_bytes(msgspec.json.format(msgspec.json.encode(progress)) + b"\n")
        _sync(file)
        file.replace(self.path / PROGRESS)
        _sync(self.path)
        self.progress = progress

    def _settle(self) -> None:
        """Move the files of a portion that counts to their days; remove those of one that does not."""
        counts = self.path / f"{PENDING}{self.progress.portions}"
        for pending in self.path.glob(f"{PENDING}*"):
            for file in sorted(pending.glob("day=*/*.parquet")) if pending == counts else ():
                day = self.path / file.parent.name
                day.mkdir(exist_ok=True)
                file.replace(day / file.name)
                _sync(day)
            shutil.rmtree(pending)
        _sync(self.path)


@contextmanager
def opened(path: Path, topic: str) -> Iterator[Archive]:
    """Open the archive of a topic, made where there is none, and keep others from writing to it meanwhile.

    Raises TwintideError where another process writes to it or where it is the archive of another topic, and
    DataError where its progress is lost or cannot be read.
    """
    path.mkdir(parents=True, exist_ok=True)
    with (path / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise TwintideError(f"{path}: another process is archiving into it: wait, or stop it") from error
        yield Archive(path, topic)


def _read_progress(path: Path, topic: str) -> Progress:
    file = path / PROGRESS
    if not file.exists():
        if next(path.glob("day=*"), None) is not None:
            raise DataError(
                f"{path}: it has days but no {PROGRESS}, so nobody knows how far it is: restore that file, "
                "or give an empty directory"
            )
        return Progress(topic)
    try:
        progress = msgspec.json.decode(file.read_bytes(), type=Progress)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: damaged ({error}): restore it, or give an empty directory") from error
    if progress.topic != topic:
        raise TwintideError(
            f"{path}: it is the archive of topic {progress.topic}, not of {topic}: give another directory, "
            "or set TWINTIDE_TOPIC"
        )
    return progress


def _by_day(rows: Any) -> Iterator[tuple[str, Any]]:
    """Yield each day (UTC) of an Arrow table with its rows, those of a partition in the topic's order."""
    days = np.asarray(rows.column("time").cast(pa.int64())) // DAY_MS
    order = np.lexsort((np.asarray(rows.column("offset")), np.asarray(rows.column("partition")), days))
    rows, days = rows.take(order), days[order]
    for day in np.unique(days):
        first, end = np.searchsorted(days, [day, day + 1])
        yield str(day.astype("datetime64[D]")), rows.slice(first, end - first)


def _sync(path: Path) -> None:
    """Return when a file, or the names in a directory, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
