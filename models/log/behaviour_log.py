"""A behaviour log: who did what with which item and when, as columns of numbers.

The one reader of logs, for training and for replay, so that both see the same rows in the same order.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import NDArray
from tqdm import tqdm

from models.errors import DataError
from models.log.bad_rows import BadRows
from models.log.content import PARQUET, PARQUET_NAMES, is_json, kind_of
from models.log.csv_file import read_csv
from models.log.file_rows import FileRows
from models.log.files import LogFile, LogPath, find_files, name_of
from models.log.format import TIANCHI, LogFormat
from models.log.json_file import read_json
from models.log.mapped import release
from models.log.parquet_file import read_parquet
from models.log.places import NOWHERE, Places
from models.log.times import HOUR_MS as HOUR_MS
from models.log.times import MINUTE_MS as MINUTE_MS
from models.log.times import SECOND_MS as SECOND_MS
from models.log.times import precision_of, times_of
from models.log.values import SKIPPED, behaviours_of, column_of, id_column_of
from models.log.values import Column as Column

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BehaviourLog:
    """R rows of a behaviour log, in the order of its files and their lines unless `in_time_order`."""

    #: What was read, as it was given: a path, a folder, a glob, a URL, or several of them.
    path: str
    #: Short hash of the rows.
    fingerprint: str
    #: The finest of hour, minute, second and millisecond that the times make use of (ms): times that all
    #: stand on the full hour know only the hour, however many zeros they are written with.
    precision_ms: int
    user: Column
    item: Column
    category: Column
    geohash: Column
    #: (R,) values of `Behaviour`.
    behaviour: NDArray[np.uint8]
    #: (R,) event time, epoch ms, UTC.
    time_ms: NDArray[np.int64]
    #: (R,) line in the file; the header is line 1. Lines of several files are counted on: `places` knows.
    line: NDArray[np.int64]
    #: How many rows could not be used and are left out.
    bad_rows: int = 0
    places: Places = NOWHERE
    #: The partition of each of `user.values`, where the log comes from a topic.
    partition: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.time_ms)

    def select(self, rows: NDArray[Any]) -> "BehaviourLog":
        """Return the log of these rows (a mask, or indices in the wanted order)."""
        columns = {
            name: replace(column, codes=column.codes[rows])
            for name in ("user", "item", "category", "geohash")
            for column in (getattr(self, name),)
        }
        return replace(
            self,
            **columns,
            behaviour=self.behaviour[rows],
            time_ms=self.time_ms[rows],
            line=self.line[rows],
        )

    def release(self) -> None:
        """Let go of the memory of rows that lie in files (`read_cached`), until they are read again."""
        codes = (self.user.codes, self.item.codes, self.category.codes, self.geohash.codes)
        release((*codes, self.behaviour, self.time_ms, self.line))

    def by_user(self) -> NDArray[np.int64]:
        """Return the rows (R,) by user, the rows of each by event time, and those of one time by line."""
        if not len(self):
            return np.zeros(0, dtype=np.int64)
        in_file_order = bool((self.line[1:] > self.line[:-1]).all())
        earliest_ms = int(self.time_ms.min())
        span_ms = int(self.time_ms.max()) - earliest_ms + 1
        if in_file_order and span_ms * len(self.user.values) < 2**63:  # one key sorts three times as fast
            key = self.user.codes.astype(np.int64)
            key *= span_ms
            key += self.time_ms
            key -= earliest_ms
            self.release()
            return np.argsort(key, kind="stable")
        return np.lexsort((self.line, self.time_ms, self.user.codes))

    def in_time_order(self) -> "BehaviourLog":
        """Return the log by event time; rows of the same time keep their order."""
        return self.select(np.argsort(self.time_ms, kind="stable"))


def read_behaviour_log(paths: LogPath | Sequence[LogPath], log_format: LogFormat = TIANCHI) -> BehaviourLog:
    """Read a behaviour log; DataError, with the line and the value, where it cannot be read.

    paths: CSV or Parquet files, folders, globs and URLs of object stores, one or several. Rows that make no
    sense are left out and counted, as long as they are not more than bad_share of all.
    """
    name = name_of(paths)
    files = without_empty(find_files(paths))
    parts = _read_files(name, files, log_format)
    places = _places_of(files, parts)
    bad = bad_rows_of(name, parts, places)
    if not len(bad.line):
        bad.check(log_format.bad_share)
        raise no_rows(name)
    log = log_of(parts, log_format, bad)
    bad.check(log_format.bad_share)
    is_kept = (log.behaviour != SKIPPED) & ~bad.is_bad
    if not is_kept.any():
        raise no_rows(name)
    kept = log if is_kept.all() else log.select(is_kept)
    precision_ms = precision_of(log.time_ms[~bad.is_bad] if bad.is_bad.any() else log.time_ms)
    return replace(kept, precision_ms=precision_ms, bad_rows=len(bad), fingerprint=fingerprint_of(kept))


def without_empty(files: list[LogFile]) -> list[LogFile]:
    """Return the files, but for empty ones beside others, as engines write for parts without rows."""
    empty = [file for file in files if not file.size and not file.path.endswith(PARQUET_NAMES)]
    if not empty or len(empty) == len(files):
        return files
    logger.warning("%d files are empty, such as %s", len(empty), empty[0].name)
    return [file for file in files if file not in empty]


def _read_files(name: str, files: Sequence[LogFile], log_format: LogFormat) -> list[FileRows]:
    """Return the rows of each file; shows on a terminal how many of their bytes have been read."""
    parts, read = [], 0
    total = sum(file.size for file in files)
    with tqdm(total=total, unit="B", unit_scale=True, desc=f"reading {name[-40:]}", disable=None) as bar:
        for file in files:

            def show(position: int, before: int = read) -> None:
                bar.update(min(before + position, total) - bar.n)

            try:
                read_file = (
                    read_parquet if kind_of(file) == PARQUET else read_json if is_json(file) else read_csv
                )
                parts.append(read_file(file, log_format, show))
            except DataError as error:
                if len(files) == 1:
                    raise
                raise DataError(f"{error} (one of {len(files)} files; a glob can leave it out)") from error
            read += file.size
    return parts


def _places_of(files: Sequence[LogFile], parts: Sequence[FileRows]) -> Places:
    counts = [part.line_count for part in parts]
    before = np.concatenate(([0], np.cumsum(counts)[:-1])).tolist()
    return Places(tuple(file.name for file in files), tuple(before), tuple(part.unit for part in parts))


def bad_rows_of(name: str, parts: Sequence[FileRows], places: Places) -> BadRows:
    """Return what is to hold the bad rows of all files, with the lines that are no rows."""
    bad = BadRows(name, places, _lines_of(parts, places))
    for part, before in zip(parts, places.before, strict=True):
        bad.add_broken(part.broken.count, {before + line: why for line, why in part.broken.reasons.items()})
    return bad


def _lines_of(parts: Sequence[FileRows], places: Places) -> NDArray[np.int64]:
    if len(parts) == 1:
        return parts[0].line
    lines = [part.line + before for part, before in zip(parts, places.before, strict=True)]
    return np.concatenate(lines, dtype=np.int64)


def log_of(parts: list[FileRows], log_format: LogFormat, bad: BadRows) -> BehaviourLog:
    """Return all rows as a log, the bad ones too, which it notes, and SKIPPED ones; empties the list."""
    time_ms = _times_of(parts, log_format, bad)
    table = _joined(parts)
    user, item = (
        id_column_of(table, log_format.source(name), bad, are_whole=log_format.whole_ids)
        for name in ("user", "item")
    )
    category, geohash, behaviour = (
        column_of(table, log_format.source(name), bad) for name in ("category", "geohash", "behaviour")
    )
    return BehaviourLog(
        path=bad.name,
        fingerprint="",
        precision_ms=1,
        user=user,
        item=item,
        category=category,
        geohash=geohash,
        behaviour=behaviours_of(behaviour, log_format, bad),
        time_ms=time_ms,
        line=bad.line,
        places=bad.places,
    )


def _joined(parts: list[FileRows]) -> Any:
    """Return the coded columns of all files as one table; empties the list: no memory for both."""
    coded = [part.coded for part in parts]
    parts.clear()
    return pa.concat_tables(coded).unify_dictionaries()


def _times_of(parts: Sequence[FileRows], log_format: LogFormat, bad: BadRows) -> NDArray[np.int64]:
    """Return the times (R,) of all files, each of which may write them in its own way."""
    found, first = [], 0
    for part, file in zip(parts, bad.places.files, strict=True):

        def note(rows: NDArray[np.int64], reason: Callable[[int], str], first: int = first) -> None:
            bad.add(rows + first, lambda row: reason(row - first))

        found.append(times_of(part.time, log_format, file, note))
        first += len(part.line)
    return found[0] if len(found) == 1 else np.concatenate(found)


def fingerprint_of(log: BehaviourLog) -> str:
    """Return a short hash of the rows."""
    digest = xxhash.xxh3_64()
    columns = (log.user, log.item, log.category, log.geohash)
    texts = (array for column in columns for array in (column.codes, *column.joined_values()))
    for array in chain((log.behaviour, log.time_ms), texts):
        digest.update(memoryview(np.ascontiguousarray(array)))  # type: ignore[arg-type]
        release([array])
    return digest.hexdigest()[:12]


def no_rows(name: str) -> DataError:
    return DataError(f"{name}: there is a header but no rows; give a log with at least one event")
