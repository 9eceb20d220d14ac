"""A CSV file's rows as Arrow columns: parsed in blocks where every line is a row, else line by line."""

import csv
import io
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv

from models.errors import DataError
from models.log.content import DAMAGED, PARQUET, open_text
from models.log.csv_lines import BLOCK_BYTES, BYTE_ORDER_MARK, RowLines
from models.log.file_rows import CODED, FileRows, columns_of, file_rows
from models.log.files import LogFile, unreadable
from models.log.format import LogFormat

logger = logging.getLogger(__name__)

#: Bytes within which the header must end.
MAX_HEADER_BYTES = 1 << 16
#: Delimiters that are proposed where the header has another one than the format.
DELIMITERS = ",;\t|"

#: Told how many bytes of a file have been read.
Progress = Callable[[int], object]


def read_csv(file: LogFile, log_format: LogFormat, progress: Progress) -> FileRows:
    """Return the rows of a CSV file, plain or compressed; DataError where it cannot be read."""
    try:
        names = _names_of(file, log_format)
        layout = _Layout(file, log_format, names, columns_of(file, names, log_format))
        return _read_blocks(layout, progress) or _read_lines(layout)
    except DAMAGED as error:
        raise unreadable(file.name, error) from error


@dataclass(frozen=True, slots=True)
class _Layout:
    """How a file is parsed."""

    file: LogFile
    log_format: LogFormat
    #: The names of its columns, and which of them are wanted.
    names: list[str]
    wanted: list[str]

    @property
    def header_lines(self) -> int:
        return 0 if self.log_format.header else 1

    @property
    def types(self) -> dict[str, Any]:
        return {name: pa.binary() if name == self.log_format.time_column else CODED for name in self.wanted}

    def nothing(self) -> Any:
        """Return the wanted columns without a row."""
        return pa.schema(self.types).empty_table()

    def parse(self, stream: Any, *, is_checked: bool) -> Any:
        """Return the wanted columns of a stream of CSV; one that is checked has rows only, and no header."""
        # What is not wanted may have any name, also one that is there twice or is no UTF-8.
        names = [name if name in self.wanted else f"#{place}" for place, name in enumerate(self.names)]
        return pyarrow.csv.read_csv(
            stream,
            read_options=pyarrow.csv.ReadOptions(
                block_size=BLOCK_BYTES, skip_rows=0 if is_checked else self.header_lines, column_names=names
            ),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=self.log_format.delimiter,
                newlines_in_values=is_checked,
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=self.types,
                include_columns=self.wanted,
                null_values=[],
            ),
        )


def _read_blocks(layout: _Layout, progress: Progress) -> FileRows | None:
    """Return the rows of a file in which each line is a row; None where that is not so."""
    with layout.file.open() as stream:
        text = _Text(open_text(layout.file, stream), lambda: progress(stream.tell()))
        try:
            table = layout.parse(text, is_checked=False)
        except pa.ArrowInvalid:  # a row of too many fields or too few, among others
            return None
    if len(table) != text.line_count - layout.header_lines or _has_line_ends(table):
        return None
    line = np.arange(layout.header_lines, text.line_count, dtype=np.int64) + 1
    return _file_rows(layout, table, line, text.line_count)


def _has_line_ends(table: Any) -> bool:
    coded = (column for column in table.columns if column.type == CODED)
    return any(
        pyarrow.compute.any(pyarrow.compute.match_substring(chunk.dictionary, end)).as_py()
        for column in coded
        for chunk in column.chunks
        for end in "\r\n"
    )


def _read_lines(layout: _Layout) -> FileRows:
    """Return the rows of any file, looked at line by line first."""
    name, delimiter = layout.file.name, layout.log_format.delimiter
    with layout.file.open() as stream:
        text = open_text(layout.file, stream)
        lines = RowLines(name, text, len(layout.names), delimiter, layout.header_lines)
        buffered = io.BufferedReader(lines, BLOCK_BYTES)
        table = layout.parse(buffered, is_checked=True) if buffered.peek(1) else layout.nothing()
    if len(table) != len(lines.line):
        raise DataError(f"{name}: not readable as CSV: {len(lines.line)} rows became {len(table)}")
    if lines.spread:
        logger.warning(
            "%s: %d rows have a value over several lines, the first begins in line %d",
            *(name, len(lines.spread), lines.spread[0]),
        )
    line = np.array(lines.line, dtype=np.int64)
    return _file_rows(layout, table, line, lines.line_count, lines.broken)


def _file_rows(layout: _Layout, table: Any, *rest: Any) -> FileRows:
    columns = {name: table.column(name) for name in layout.wanted}
    return file_rows(layout.file, layout.log_format, columns, *rest)


class _Text:
    """A stream that tells when it was read, and counts lines."""

    def __init__(self, stream: Any, on_read: Callable[[], object]) -> None:
        self._stream, self._on_read = stream, on_read
        self._line_ends, self._last = 0, b""
        self.closed = False

    @property
    def line_count(self) -> int:
        r"""Return the lines read so far; they end with \n, \r\n or \r."""
        return self._line_ends + (self._last not in (b"", b"\n", b"\r"))

    def read(self, size: int = -1) -> bytes:
        """Read as any file does."""
        block: bytes = self._stream.read(size)
        self._on_read()
        self._line_ends += block.count(b"\n")
        if b"\r" in block:
            self._line_ends += block.count(b"\r") - block.count(b"\r\n")
        self._line_ends -= self._last == b"\r" and block.startswith(b"\n")
        self._last = block[-1:] or self._last
        return block

    def close(self) -> None:
        """Say that nothing more is read."""
        self.closed = True


def _names_of(file: LogFile, log_format: LogFormat) -> list[str]:
    """Return the names of a file's columns, from its first line where the format does not say them."""
    with file.open() as stream:
        first = open_text(file, stream).read(MAX_HEADER_BYTES)
    if first.startswith(PARQUET):
        raise DataError(f"{file.name}: this is Parquet, compressed as a whole: unpack it")
    if log_format.header:
        return list(log_format.header)
    if not first:
        raise DataError(f"{file.name}: the file is empty; expected the header {','.join(log_format.columns)}")
    header = (first.splitlines() or [b""])[0].removeprefix(BYTE_ORDER_MARK).decode(errors="replace")
    try:
        names = next(csv.reader([header], delimiter=log_format.delimiter), [])
    except csv.Error as error:
        raise DataError(f"{file.name}:1: the header is not CSV ({error})") from error
    others = [each for each in DELIMITERS if len(names) == 1 and each in header]
    if others:
        raise DataError(
            f"{file.name}:1: the header {header[:200]!r} is one column; does {others[0]!r} part them? "
            "A file for --format can say so: delimiter"
        )
    return [name.strip() for name in names]
