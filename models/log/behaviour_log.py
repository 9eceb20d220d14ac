"""A behaviour log: one CSV file of who did what with which item and when, as columns of numbers.

The one reader of such files, for training and for replay, so that both see the same rows in the same order.
"""

import csv
import io
from array import array
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import xxhash
from numpy.typing import NDArray
from tqdm import tqdm

from models.errors import DataError
from models.log.bad_rows import BadRows
from models.log.format import TIANCHI, LogFormat
from models.log.values import SKIPPED, behaviours_of, times_of
from models.log.values import Column as Column

HOUR_MS, MINUTE_MS, SECOND_MS = 3_600_000, 60_000, 1_000

#: Bytes of the file that one parsing task takes at a time.
BLOCK_BYTES = 1 << 23
#: Bytes within which the header must end.
MAX_HEADER_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class BehaviourLog:
    """R rows of a behaviour log, in file order unless `in_time_order`."""

    path: Path
    #: Short hash of the file's content, so that event ids of different files differ.
    fingerprint: str
    #: The finest of hour, minute, second and millisecond that the file's times make use of (ms): times that
    #: all stand on the full hour know only the hour, however many zeros they are written with.
    precision_ms: int
    user: Column
    item: Column
    category: Column
    geohash: Column
    #: (R,) values of `Behaviour`.
    behaviour: NDArray[np.uint8]
    #: (R,) event time, epoch ms, UTC.
    time_ms: NDArray[np.int64]
    #: (R,) line in the file; the header is line 1.
    line: NDArray[np.int64]
    #: How many rows of the file could not be used and are left out.
    bad_rows: int = 0

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

    def event_ids(self, rows: slice | NDArray[Any]) -> list[str]:
        """Return the ids of these rows' events: unique per row, the same in every reading."""
        return [f"{self.fingerprint}:{line}" for line in self.line[rows].tolist()]

    def by_user(self) -> NDArray[np.int64]:
        """Return the rows (R,) by user, the rows of each by event time, and those of one time by line."""
        if not len(self):
            return np.zeros(0, dtype=np.int64)
        in_file_order = bool((self.line[1:] > self.line[:-1]).all())
        earliest_ms = int(self.time_ms.min())
        span_ms = int(self.time_ms.max()) - earliest_ms + 1
        if in_file_order and span_ms * len(self.user.values) < 2**63:  # one key sorts three times as fast
            key = self.user.codes * np.int64(span_ms) + (self.time_ms - earliest_ms)
            return np.argsort(key, kind="stable")
        return np.lexsort((self.line, self.time_ms, self.user.codes))

    def in_time_order(self) -> "BehaviourLog":
        """Return the log by event time; rows of the same time keep their order."""
        return self.select(np.argsort(self.time_ms, kind="stable"))


def read_behaviour_log(path: Path, log_format: LogFormat = TIANCHI) -> BehaviourLog:
    """Read a behaviour log; DataError, with the line and the value, where it cannot be read.

    Rows that make no sense are left out and counted, as long as they are not more than bad_share of all.
    """
    header = _read_header(path, log_format)
    fingerprint, line_count = _fingerprint(path)
    if line_count < 2 and not log_format.header:
        raise _no_rows(path)
    table = _read_table(path, header, log_format)
    bad = _lines(path, len(table), line_count, header, 0 if log_format.header else 1)
    if not len(table):
        bad.check(log_format.bad_share)
        raise _no_rows(path)
    user, item = (_id_column(table, name, bad) for name in (log_format.user, log_format.item))
    if log_format.whole_ids:
        user, item = _as_whole(user), _as_whole(item)
    behaviour = behaviours_of(_column(table, log_format.behaviour), log_format, bad)
    time_ms = times_of(table.column(log_format.time), log_format, bad)
    bad.check(log_format.bad_share)
    is_kept = (behaviour != SKIPPED) & ~bad.is_bad
    if not is_kept.any():
        raise _no_rows(path)
    log = BehaviourLog(
        path=path,
        fingerprint=fingerprint,
        precision_ms=precision_of(time_ms[~bad.is_bad]),
        user=user,
        item=item,
        category=_column(table, log_format.category),
        geohash=_column(table, log_format.geohash),
        behaviour=behaviour,
        time_ms=time_ms,
        line=bad.line,
        bad_rows=len(bad),
    )
    return log if is_kept.all() else log.select(is_kept)


def precision_of(time_ms: NDArray[np.int64]) -> int:
    """Return the finest unit that times (R,) make use of, as in `BehaviourLog.precision_ms`."""
    return next(unit for unit in (HOUR_MS, MINUTE_MS, SECOND_MS, 1) if not (time_ms % unit).any())


def _read_header(path: Path, log_format: LogFormat) -> list[str]:
    try:
        with path.open("rb") as file:
            first = file.readline(MAX_HEADER_BYTES)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; `python -m offline.sample --out {path}` makes one") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); give the path of a CSV file") from error
    if not first:
        raise DataError(f"{path}: the file is empty; expected the header {','.join(log_format.columns)}")
    if log_format.header:
        return list(log_format.header)
    try:
        names = next(csv.reader([first.decode("utf-8-sig").rstrip("\r\n")]), [])
    except UnicodeDecodeError as error:
        raise DataError(f"{path}:1: the header is not UTF-8 text; save the file as UTF-8 CSV") from error
    names = [name.strip() for name in names]
    _refuse_header(path, names, log_format)
    return names


def _refuse_header(path: Path, names: list[str], log_format: LogFormat) -> None:
    found = ",".join(names)[:200]
    missing = [name for name in log_format.columns if name not in names]
    if missing:
        raise DataError(
            f"{path}:1: the header lacks {', '.join(missing)}; found {found!r}, "
            f"expected {','.join(log_format.columns)}"
        )
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"{path}:1: the header has {', '.join(twice)} more than once: {found!r}; rename one")


def _fingerprint(path: Path) -> tuple[str, int]:
    """Return a short hash of the content, and the number of its lines."""
    digest, newlines, last = xxhash.xxh3_64(), 0, b""
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
            newlines += block.count(b"\n")
            last = block[-1:]
    return digest.hexdigest()[:12], newlines + (last != b"\n")


class _Watched(io.FileIO):
    """A file that shows, on a terminal, how much of it has been read."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._bar = tqdm(
            total=path.stat().st_size, unit="B", unit_scale=True, desc=f"reading {path.name}", disable=None
        )

    def read(self, size: int | None = -1, /) -> bytes:
        """Read as any file does."""
        block = super().read(-1 if size is None else size)
        self._bar.update(len(block))
        return block

    def close(self) -> None:
        """Close the file and end the bar."""
        self._bar.close()
        super().close()


def _read_table(path: Path, header: list[str], log_format: LogFormat) -> Any:
    """Return the needed columns as an Arrow table: times as text, all others as dictionary codes."""
    coded = pa.dictionary(pa.int32(), pa.string())
    types = dict.fromkeys(log_format.columns, coded) | {log_format.time: pa.string()}
    try:
        with _Watched(path) as file:
            table = pyarrow.csv.read_csv(
                file,
                read_options=pyarrow.csv.ReadOptions(
                    block_size=BLOCK_BYTES, skip_rows=0 if log_format.header else 1, column_names=header
                ),
                parse_options=pyarrow.csv.ParseOptions(
                    newlines_in_values=True, invalid_row_handler=lambda _: "skip"
                ),
                convert_options=pyarrow.csv.ConvertOptions(
                    column_types=types, include_columns=list(log_format.columns), null_values=[]
                ),
            )
    except pa.ArrowInvalid as error:
        raise _explain(path, error) from error
    return table.unify_dictionaries()


def _no_rows(path: Path) -> DataError:
    return DataError(f"{path}: the file has a header but no rows; give a file with at least one event")


def _explain(path: Path, error: Exception) -> DataError:
    """Return what is wrong with a file that Arrow refused, by reading it again line by line."""
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            if raw.decode(errors="replace").encode() != raw:
                return DataError(f"{path}:{number}: not UTF-8 text: {raw[:60]!r}; save the file as UTF-8 CSV")
    return DataError(f"{path}: not readable as CSV: {' '.join(str(error).split())[:300]}")


def _lines(path: Path, row_count: int, line_count: int, header: list[str], header_lines: int) -> BadRows:
    """Return the line of each row, and the broken lines, which the table lacks.

    The file is read again only where lines and rows do not pair up.
    """
    if line_count == row_count + header_lines:
        return BadRows(path, np.arange(header_lines + 1, line_count + 1, dtype=np.int64))
    lines, broken = array("q"), []
    with path.open(newline="", encoding="utf-8-sig") as text:
        reader = csv.reader(text)
        try:
            for fields in islice(reader, header_lines, None):
                if len(fields) == len(header):
                    lines.append(reader.line_num)
                elif fields:
                    broken.append((reader.line_num, fields))
        except csv.Error as error:
            raise DataError(
                f"{path}:{reader.line_num}: not CSV ({error}); mend or remove the line"
            ) from error
    bad = BadRows(path, np.frombuffer(lines, dtype=np.int64))
    for line, fields in broken:
        row = ",".join(fields)[:200]
        bad.add_broken(line, f"{len(fields)} fields where the header has {len(header)}: {row!r}")
    return bad


def _column(table: Any, name: str) -> Column:
    """Return a column; one that the format does not have is empty in every row."""
    if not name:
        return Column(np.zeros(len(table), dtype=np.int32), np.array([""], dtype=object))
    chunks = table.column(name).chunks
    codes = np.concatenate([np.from_dlpack(chunk.indices) for chunk in chunks])
    return Column(codes, np.array(chunks[0].dictionary.to_pylist(), dtype=object))


def _as_whole(column: Column) -> Column:
    """Return the column with ids such as 266079.0 as 266079; two that become one share a code."""
    place: dict[str, int] = {}
    whole = (text[:-2] if text.endswith(".0") and text[:-2].isdigit() else text for text in column.values)
    moved = np.array([place.setdefault(text, len(place)) for text in whole], dtype=np.int32)
    return Column(moved[column.codes], np.array(list(place), dtype=object))


def _id_column(table: Any, name: str, bad: BadRows) -> Column:
    """Return a column in which no row may be empty."""
    column = _column(table, name)
    empty = np.flatnonzero(column.values == "")
    if len(empty):
        rows = np.flatnonzero(column.codes == empty[0])
        bad.add(rows, lambda _: f"{name} is empty; every row needs one")
    return column
