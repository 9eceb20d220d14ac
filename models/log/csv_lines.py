"""A CSV file line by line: which lines are rows, and what is wrong with the rest.

A quote that is opened and never closed would take in all the lines up to the next one. So a row ends with its
line, unless a quoted value goes on in the next ones, none of which could be a row, and the row is whole then.
"""

import io
import re
from array import array
from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

from models.errors import DataError
from models.log.file_rows import BrokenLines

#: Bytes that are read at a time, and that a line may have.
BLOCK_BYTES = 1 << 23
#: Lines that a quoted value may go on for.
MAX_SPREAD = 100
#: Rows that are handed on at a time.
ROWS_AT_ONCE = 10_000
BYTE_ORDER_MARK = b"\xef\xbb\xbf"

_QUOTED = re.compile(rb'"(?:[^"]|"")*+"')


class Shape(NamedTuple):
    """What a line is made of."""

    fields: int
    #: Whether a quote is open at its end.
    is_open: bool
    #: Whether there is a quote that neither begins nor ends a value.
    has_stray_quote: bool


class RowLines(io.RawIOBase):
    """The text of a CSV file without its header and its broken lines, one row after the other."""

    def __init__(
        self, name: str, stream: Any, field_count: int, delimiter: str = ",", header_lines: int = 1
    ) -> None:
        self._name, self._fields, self._delimiter = name, field_count, delimiter.encode()
        self._waiting: deque[bytes] = deque()
        self._lines = _lines(name, stream)
        #: Lines read so far.
        self.line_count = 0
        for _ in range(header_lines):
            self._next()
        #: The line of each row, that in which it begins.
        self.line = array("q")
        self.broken = BrokenLines()
        #: The lines in which rows begin that have a value over several lines.
        self.spread = array("q")
        self._rows = self._find_rows()
        self._ready = memoryview(b"")
        value = rb'(?:"(?:[^"]|"")*+"|[^"%s]*)' % re.escape(self._delimiter)
        rest = rb"(?:%s%s){%d}" % (re.escape(self._delimiter), value, field_count - 1)
        self._whole = re.compile(value + rest + rb"[\r\n]*")

    def readable(self) -> bool:
        """Say that this may be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer with what comes next; return how many bytes that were."""
        if not self._ready:
            self._ready = memoryview(b"".join(islice(self._rows, ROWS_AT_ONCE)))
        count = min(len(buffer), len(self._ready))
        buffer[:count], self._ready = self._ready[:count], self._ready[count:]
        return count

    def _find_rows(self) -> Iterator[bytes]:
        is_quote_missing = False
        while (line := self._next()) is not None:
            number = self.line_count
            shape = self._shape_of(line)
            if shape.is_open:
                row = self._continued(line)
                if row is None:
                    self.broken.add(number, f"a quote is opened and not closed: {_shown(line)}")
                    is_quote_missing = True
                    continue
                self.spread.append(number)
                line = row
            elif is_quote_missing and shape.has_stray_quote:
                self.broken.add(number, f"a quote that closes nothing: {_shown(line)}")
                is_quote_missing = False
                continue
            elif shape.fields != self._fields:
                if line.strip(b"\r\n"):
                    wrong = f"{shape.fields} fields where the header has {self._fields}"
                    self.broken.add(number, f"{wrong}: {_shown(line)}")
                continue
            self.line.append(number)
            yield line

    def _continued(self, line: bytes) -> bytes | None:
        """Return the row that goes on after this line, and take its lines; None where there is none."""
        row = line
        for ahead in range(MAX_SPREAD):
            following = self._peek(ahead)
            if following is None or self._is_whole(self._shape_of(following)):
                return None
            row += following
            shape = self._shape_of(row)
            if not shape.is_open:
                if not self._is_whole(shape):
                    return None
                for _ in range(ahead + 1):
                    self._next()
                return row
        return None

    def _is_whole(self, shape: Shape) -> bool:
        return shape.fields == self._fields and not shape.is_open

    def _shape_of(self, line: bytes) -> Shape:
        if b'"' not in line:
            return Shape(line.count(self._delimiter) + 1, False, False)
        if self._whole.fullmatch(line):
            return Shape(self._fields, False, False)
        return _shape_of(line, self._delimiter)

    def _next(self) -> bytes | None:
        line = self._waiting.popleft() if self._waiting else next(self._lines, None)
        self.line_count += line is not None
        return line

    def _peek(self, ahead: int) -> bytes | None:
        while len(self._waiting) <= ahead:
            line = next(self._lines, None)
            if line is None:
                return None
            self._waiting.append(line)
        return self._waiting[ahead]


def _shape_of(line: bytes, delimiter: bytes) -> Shape:
    """Return the shape of a line that begins outside of quotes, as Arrow reads it."""
    fields, start, has_stray_quote = 0, 0, False
    while True:
        fields += 1
        if line.startswith(b'"', start):
            quoted = _QUOTED.match(line, start)
            if quoted is None:
                return Shape(fields, True, has_stray_quote)
            start = quoted.end()
        end = line.find(delimiter, start)
        has_stray_quote |= line.find(b'"', start, end if end >= 0 else len(line)) >= 0
        if end < 0:
            return Shape(fields, False, has_stray_quote)
        start = end + 1


def _lines(name: str, stream: Any) -> Iterator[bytes]:
    r"""Yield the lines of a stream with their ends, any of \n, \r\n and \r."""
    rest, number = b"", 0
    while block := stream.read(BLOCK_BYTES):
        lines = (rest + block if number or rest else block.removeprefix(BYTE_ORDER_MARK)).splitlines(True)
        rest = lines.pop() if lines else b""
        if len(rest) > BLOCK_BYTES:
            raise DataError(f"{name}:{number + len(lines) + 1}: a line of more than {BLOCK_BYTES:,} bytes")
        number += len(lines)
        yield from lines
    yield from rest.splitlines(True)


def _shown(line: bytes) -> str:
    return repr(line.decode(errors="replace").rstrip("\r\n")[:200])
