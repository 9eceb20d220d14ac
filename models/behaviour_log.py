"""A behaviour log: one CSV file of who did what with which item and when, as columns of numbers.

The one reader of such files, for training and for replay, so that both see the same rows in the same order.
"""

import csv
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
import xxhash
from numpy.typing import NDArray

from models.errors import DataError
from models.events import Behaviour
from models.log_format import TIANCHI, LogFormat

HOUR_MS, MINUTE_MS, SECOND_MS = 3_600_000, 60_000, 1_000

#: Bytes of the file that one parsing task takes at a time.
BLOCK_BYTES = 1 << 23
#: Bytes within which the header must end.
MAX_HEADER_BYTES = 1 << 16
#: In place of a behaviour: the row is left out.
SKIPPED = 0
#: Lengths of `YYYY-MM-DD HH`, with minutes, with seconds.
TIME_LENGTHS = (13, 16, 19)


@dataclass(frozen=True, slots=True)
class Column:
    """One column of R strings, each distinct string held once."""

    #: (R,) index into `values`.
    codes: NDArray[np.int32]
    #: The distinct strings of the file, in the order of their first row; `select` keeps them all.
    values: NDArray[np.object_]

    def strings(self) -> NDArray[np.object_]:
        """Return the R strings themselves."""
        strings: NDArray[np.object_] = self.values[self.codes]
        return strings


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

    def in_time_order(self) -> "BehaviourLog":
        """Return the log by event time; rows of the same time keep their order."""
        return self.select(np.argsort(self.time_ms, kind="stable"))


def read_behaviour_log(path: Path, log_format: LogFormat = TIANCHI) -> BehaviourLog:
    """Read a behaviour log; DataError, with the line and the value, where it cannot be read."""
    header = _read_header(path, log_format)
    fingerprint, line_count = _fingerprint(path)
    if line_count < 2 and not log_format.header:
        raise _no_rows(path)
    table = _read_table(path, header, log_format)
    line = _line_numbers(path, len(table), line_count, 0 if log_format.header else 1)
    user, item = (_column(table, name) for name in (log_format.user, log_format.item))
    for name, column in ((log_format.user, user), (log_format.item, item)):
        _refuse_empty(path, line, name, column)
    if log_format.whole_ids:
        user, item = _as_whole(user), _as_whole(item)
    behaviour = _behaviours(path, line, _column(table, log_format.behaviour), log_format)
    time_ms = _times_ms(path, line, table.column(log_format.time), log_format)
    log = BehaviourLog(
        path=path,
        fingerprint=fingerprint,
        precision_ms=next(unit for unit in (HOUR_MS, MINUTE_MS, SECOND_MS, 1) if not (time_ms % unit).any()),
        user=user,
        item=item,
        category=_column(table, log_format.category),
        geohash=_column(table, log_format.geohash),
        behaviour=behaviour,
        time_ms=time_ms,
        line=line,
    )
    if not behaviour.any():
        raise _no_rows(path)
    return log if behaviour.all() else log.select(behaviour != SKIPPED)


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


def _read_table(path: Path, header: list[str], log_format: LogFormat) -> Any:
    """Return the needed columns as an Arrow table: times as text, all others as dictionary codes."""
    coded = pa.dictionary(pa.int32(), pa.string())
    types = dict.fromkeys(log_format.columns, coded) | {log_format.time: pa.string()}
    try:
        table = pyarrow.csv.read_csv(
            path,
            read_options=pyarrow.csv.ReadOptions(
                block_size=BLOCK_BYTES, skip_rows=0 if log_format.header else 1, column_names=header
            ),
            parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=types, include_columns=list(log_format.columns), null_values=[]
            ),
        )
    except pa.ArrowInvalid as error:
        raise _explain(path, header, error) from error
    if not len(table):
        raise _no_rows(path)
    return table.unify_dictionaries()


def _no_rows(path: Path) -> DataError:
    return DataError(f"{path}: the file has a header but no rows; give a file with at least one event")


def _explain(path: Path, header: list[str], error: Exception) -> DataError:
    """Return what is wrong with a file that Arrow refused, by reading it again line by line."""
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            if raw.decode(errors="replace").encode() != raw:
                return DataError(f"{path}:{number}: not UTF-8 text: {raw[:60]!r}; save the file as UTF-8 CSV")
    try:
        with path.open(newline="", encoding="utf-8-sig") as text:
            reader = csv.reader(text)
            for fields in reader:
                if fields and len(fields) != len(header):
                    row = ",".join(fields)[:200]
                    return DataError(
                        f"{path}:{reader.line_num}: {len(fields)} fields where the header has {len(header)}: "
                        f"{row!r}; mend or remove the line"
                    )
    except csv.Error as broken:
        return DataError(f"{path}:{reader.line_num}: not CSV ({broken}); mend or remove the line")
    return DataError(f"{path}: not readable as CSV: {' '.join(str(error).split())[:300]}")


def _line_numbers(path: Path, row_count: int, line_count: int, header_lines: int) -> NDArray[np.int64]:
    """Return the line of each row; the file is read again only where lines and rows do not pair up."""
    if line_count == row_count + header_lines:
        return np.arange(header_lines + 1, line_count + 1, dtype=np.int64)
    with path.open(newline="", encoding="utf-8-sig") as text:
        reader = csv.reader(text)
        lines = [reader.line_num for fields in reader if fields]
    return np.array(lines[header_lines:], dtype=np.int64)


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


def _refuse_empty(path: Path, line: NDArray[np.int64], name: str, column: Column) -> None:
    empty = np.flatnonzero(column.values == "")
    if len(empty):
        row = int(np.argmax(column.codes == empty[0]))
        raise DataError(f"{path}:{line[row]}: {name} is empty; every row needs one, mend or remove the line")


def _behaviours(
    path: Path, line: NDArray[np.int64], column: Column, log_format: LogFormat
) -> NDArray[np.uint8]:
    if not log_format.behaviour:
        return np.full(len(line), Behaviour.VIEW, dtype=np.uint8)
    unknown = [code for code, text in enumerate(column.values) if text not in log_format.behaviours]
    if unknown:
        row = int(np.argmax(np.isin(column.codes, unknown)))
        known = ", ".join(
            f"{text} ({name.name.lower() if name else 'skipped'})"
            for text, name in log_format.behaviours.items()
        )
        raise DataError(
            f"{path}:{line[row]}: {log_format.behaviour} is {column.values[column.codes[row]]!r}; "
            f"it must be one of {known}"
        )
    by_code = np.array([log_format.behaviours[text] or SKIPPED for text in column.values], dtype=np.uint8)
    return by_code[column.codes]


def _times_ms(path: Path, line: NDArray[np.int64], texts: Any, log_format: LogFormat) -> NDArray[np.int64]:
    if log_format.time_unit != "text":
        return _epoch_ms(path, line, texts, log_format)
    lengths = np.concatenate([np.from_dlpack(pyarrow.compute.binary_length(chunk)) for chunk in texts.chunks])
    bad = np.flatnonzero(~np.isin(lengths, TIME_LENGTHS))
    try:
        if not len(bad):
            times = texts.cast(pa.timestamp("ms"))
            return np.concatenate([np.from_dlpack(chunk.cast(pa.int64())) for chunk in times.chunks])
        row = int(bad[0])
    except pa.ArrowInvalid:
        row = next(row for row, text in enumerate(texts) if not _is_a(pa.timestamp("ms"), text))
    raise DataError(
        f"{path}:{line[row]}: {log_format.time} is {texts[row].as_py()!r}; it must be YYYY-MM-DD HH, "
        "with :MM and :SS where known"
    )


def _epoch_ms(path: Path, line: NDArray[np.int64], texts: Any, log_format: LogFormat) -> NDArray[np.int64]:
    try:
        times = np.concatenate([np.from_dlpack(chunk.cast(pa.int64())) for chunk in texts.chunks])
    except pa.ArrowInvalid:
        row = next(row for row, text in enumerate(texts) if not _is_a(pa.int64(), text))
        raise DataError(
            f"{path}:{line[row]}: {log_format.time} is {texts[row].as_py()!r}; it must be a whole number of "
            f"{log_format.time_unit} since 1970"
        ) from None
    return times * (SECOND_MS if log_format.time_unit == "seconds" else 1)


def _is_a(kind: Any, text: Any) -> bool:
    try:
        text.cast(kind)
    except pa.ArrowInvalid:
        return False
    return True
