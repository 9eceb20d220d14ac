"""A behaviour log read in parts, each of which memory holds, however large the log is."""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet
from tqdm import tqdm

from models.log.bad_rows import BadCount, check_share
from models.log.behaviour_log import BehaviourLog, bad_rows_of, log_of, no_rows, without_empty
from models.log.content import DAMAGED, PARQUET, is_json, kind_of, open_text
from models.log.csv_file import Progress, read_csv
from models.log.file_rows import BrokenLines, FileRows, columns_of
from models.log.files import LogFile, LogPath, find_files, name_of, unreadable
from models.log.format import LogFormat
from models.log.json_file import read_json
from models.log.parquet_file import names_of as columns_in
from models.log.parquet_file import read_parquet
from models.log.places import Places
from models.log.times import precision_of
from models.log.values import SKIPPED

#: Parts a file, and reads a part.
_Split = Callable[[LogFile, LogFormat, Progress], Iterator[Any]]
_Read = Callable[[LogFile, LogFormat, Progress], FileRows]

#: Bytes of text, and rows of Parquet, that are a part.
PART_BYTES, PART_ROWS = 1 << 25, 1 << 18


@dataclass(frozen=True, slots=True)
class Ending:
    """What is known of a log when its last part has been read."""

    bad_rows: int
    places: Places


def read_in_parts(
    paths: LogPath | Sequence[LogPath], log_format: LogFormat
) -> Generator[BehaviourLog, None, Ending]:
    """Yield the log that `read_behaviour_log` returns in parts, in the order of its lines; return its ending.

    A part knows its own precision alone. Raises DataError as `read_behaviour_log` does; that too many rows
    are bad is known at the end.
    """
    name, files, count = name_of(paths), without_empty(find_files(paths)), BadCount()
    before: list[int] = []
    units: list[str] = []
    has_kept = False
    for part in _parts_of(files, log_format):
        if part.is_first:
            before.append(part.lines_before)
            units.append(part.rows.unit)
        rows = _moved(part.rows, part.lines_before)
        bad = bad_rows_of(name, [rows], Places((part.file.name,), (0,), (rows.unit,)))
        log = log_of([rows], log_format, bad) if len(bad.line) else None
        count.add(bad)
        if log is None:
            continue
        is_kept = (log.behaviour != SKIPPED) & ~bad.is_bad
        if is_kept.any():
            has_kept = True
            yield replace(log.select(is_kept), precision_ms=precision_of(log.time_ms[~bad.is_bad]))
    if not count.total:
        raise no_rows(name)
    places = Places(tuple(file.name for file in files), tuple(before), tuple(units))
    check_share(name, places, count, log_format.bad_share)
    if not has_kept:
        raise no_rows(name)
    return Ending(count.bad, places)


@dataclass(frozen=True, slots=True)
class _Part:
    """Some rows of a file, numbered from its first line or from 1 on."""

    file: LogFile
    rows: FileRows
    #: How many of the log's lines stand before those.
    lines_before: int
    is_first: bool


class _Memory:
    """Stands for the filesystem of a part, which is a file by itself."""

    def __init__(self, content: Any) -> None:
        self._content = content

    def open_input_file(self, _path: str) -> Any:
        """Return the part opened for reading."""
        return pa.BufferReader(self._content)


def _parts_of(files: Sequence[LogFile], log_format: LogFormat) -> Iterator[_Part]:
    total, lines = sum(file.size for file in files), 0
    with tqdm(total=total, unit="B", unit_scale=True, desc="reading", disable=None) as bar:
        for file in files:
            split, read, has_header = _ways_of(file, log_format)
            first = lines
            for content in split(file, log_format, bar.update):
                is_first = lines == first
                name = file.name if is_first else f"{file.name}, the part behind line {lines - first:,}"
                piece = replace(file, name=name, size=len(content), filesystem=_Memory(content))
                rows = read(piece, log_format, lambda _: None)
                before = lines if is_first else lines - has_header
                yield _Part(file, rows, before, is_first)
                lines = before + rows.line_count


def _ways_of(file: LogFile, log_format: LogFormat) -> tuple[_Split, _Read, bool]:
    """Return how a file is parted, how a part is read, and whether its first line is a header."""
    if kind_of(file) == PARQUET:
        return _split_parquet, read_parquet, False
    if is_json(file):
        return _split_json, read_json, False
    return _split_csv, read_csv, not log_format.header


def _moved(rows: FileRows, lines: int) -> FileRows:
    """Return rows that stand so many lines further on."""
    reasons = {line + lines: reason for line, reason in rows.broken.reasons.items()}
    return replace(rows, line=rows.line + lines, broken=BrokenLines(rows.broken.count, reasons))


def _split_csv(file: LogFile, log_format: LogFormat, progress: Progress) -> Iterator[bytes]:
    """Yield the text of a CSV file in parts of whole rows, each with the file's header."""
    return _split_text(file, not log_format.header, _end_of_rows, progress)


def _split_json(file: LogFile, _: LogFormat, progress: Progress) -> Iterator[bytes]:
    """Yield the text of a file of JSON, an object a line, in parts of whole lines."""
    return _split_text(file, False, lambda text: text.rfind(b"\n") + 1, progress)


def _split_text(
    file: LogFile, has_header: bool, end_of: Callable[[bytes], int], progress: Progress
) -> Iterator[bytes]:
    try:
        with file.open() as stream:
            text = open_text(file, stream)
            header: bytes | None = None
            rest = b""
            while True:
                block = text.read(PART_BYTES)
                progress(len(block))
                rest += block
                if is_first := header is None:
                    header = next(iter(rest.splitlines(keepends=True)), b"") if has_header else b""
                    rest = rest[len(header) :]
                end = end_of(rest) if block else len(rest)
                if end or is_first:
                    yield header + rest[:end]
                rest = rest[end:]
                if not block:
                    return
    except DAMAGED as error:
        raise unreadable(file.name, error) from error


def _end_of_rows(text: bytes) -> int:
    """Return where the last line ends that is not within quotes, or, where all are, the last line."""
    line_end = b"\n" if b"\n" in text else b"\r"
    last = end = text.rfind(line_end) + 1
    is_within = text.count(b'"', 0, end) % 2
    while is_within and end:
        begin = text.rfind(line_end, 0, end - 1) + 1
        is_within ^= text.count(b'"', begin, end) % 2
        end = begin
    return end or last


def _split_parquet(file: LogFile, log_format: LogFormat, progress: Progress) -> Iterator[Any]:
    """Yield the rows of a Parquet file as files of their own."""
    try:
        with file.open() as stream:
            parquet = pyarrow.parquet.ParquetFile(stream, coerce_int96_timestamp_unit="ms")
            names = columns_of(file, columns_in(parquet), log_format)
            if not parquet.metadata.num_rows:  # it has its place among the files all the same
                yield _as_file(parquet.read(columns=names))
            for batch in parquet.iter_batches(PART_ROWS, columns=names):
                yield _as_file(pa.Table.from_batches([batch]))
            progress(file.size)
    except DAMAGED as error:
        raise unreadable(file.name, error) from error


def _as_file(table: Any) -> Any:
    """Return a table as the bytes of a Parquet file."""
    sink = pa.BufferOutputStream()
    pyarrow.parquet.write_table(table, sink, compression="none")
    return sink.getvalue()
