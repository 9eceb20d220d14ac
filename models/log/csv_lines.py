"""A CSV file line by line: which lines are rows, and what is wrong with the rest.

A quote that is opened and never closed would take in all the lines up to the next one. So a row ends with its
line, unless a quoted value goes on in the next ones, none of which could be a row, and the row is whole then.
"""

import io
import re
from array import array
from collections import deque
from collections.abc import Callable, Iterator
from itertools import compress, repeat
from operator import ne, not_
from typing import Any, NamedTuple

from models.errors import DataError
from models.log.file_rows import BrokenLines

#: Bytes that are read at a time, and that a line may have.
BLOCK_BYTES = 1 << 23
#: Lines that a quoted value may go on for.
MAX_SPREAD = 100
BYTE_ORDER_MARK = b"\xef\xbb\xbf"

_QUOTED = re.compile(rb'"[^"]*+(?:""[^"]*+)*+"')


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
        self._fields, self._delimiter = field_count, delimiter.encode()
        self._blocks = _blocks(name, stream)
        self._plain_row = _plain_row(field_count, self._delimiter)
        #: Lines that have been read, but not looked at.
        self._waiting: deque[bytes] = deque()
        self._loaded = 0
        #: Which lines, of those read, are not plainly a row.
        self._odd: deque[int] = deque()
        #: Lines looked at so far.
        self.line_count = 0
        #: The line of each row, that in which it begins.
        self.line = array("q")
        self.broken = BrokenLines()
        #: The lines in which rows begin that have a value over several lines.
        self.spread = array("q")
        #: Whether a quote was opened for nothing, and the one that would have closed it has not come yet.
        self._is_quote_missing = False
        self._rows = self._find_rows()
        self._ready = memoryview(b"")
        for _ in range(header_lines):
            self._next()

    def readable(self) -> bool:
        """Say that this may be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer with what comes next; return how many bytes that were."""
        if not self._ready:
            self._ready = memoryview(next(self._rows, b""))
        count = min(len(buffer), len(self._ready))
        buffer[:count], self._ready = self._ready[:count], self._ready[count:]
        return count

    def _find_rows(self) -> Iterator[bytes]:
        """Yield rows, all of those together that are plain."""
        while self._waiting or self._load():
            if rows := self._plain_rows():
                yield rows
            elif (row := self._odd_row()) is not None:
                yield row

    def _plain_rows(self) -> bytes:
        """Take the lines before the next odd one."""
        while self._odd and self._odd[0] <= self.line_count:  # it was part of a row that began before it
            self._odd.popleft()
        count = (self._odd[0] - 1 if self._odd else self._loaded) - self.line_count
        self.line.extend(range(self.line_count + 1, self.line_count + count + 1))
        self.line_count += count
        return b"".join([self._waiting.popleft() for _ in range(count)])

    def _odd_row(self) -> bytes | None:
        """Take the next line, and those in which its values go on; note it where it is no row."""
        line = self._next() or b""
        number, shape = self.line_count, self._shape_of(line)
        if shape.is_open:
            row = self._continued(line)
            if row is None:
                self.broken.add(number, f"a quote is opened and not closed: {_shown(line)}")
                self._is_quote_missing = True
                return None
            self.spread.append(number)
            line = row
        elif self._is_quote_missing and shape.has_stray_quote:
            self.broken.add(number, f"a quote that closes nothing: {_shown(line)}")
            self._is_quote_missing = False
            return None
        elif shape.fields != self._fields:
            if line.strip(b"\r\n"):
                wrong = f"{shape.fields} fields where the header has {self._fields}"
                self.broken.add(number, f"{wrong}: {_shown(line)}")
            return None
        self.line.append(number)
        return line

    def _continued(self, line: bytes) -> bytes | None:
        """Return the row that goes on after this line, and take its lines; None where there is none."""
        row = line
        for ahead in range(MAX_SPREAD):
            following = self._peek(ahead)
            if following is None or self._may_be_row(following):
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

    def _may_be_row(self, line: bytes) -> bool:
        """Return whether a line alone is a row, or would be without its quotes."""
        return line.count(self._delimiter) == self._fields - 1 or self._is_whole(self._shape_of(line))

    def _is_whole(self, shape: Shape) -> bool:
        return shape.fields == self._fields and not shape.is_open

    def _shape_of(self, line: bytes) -> Shape:
        return _shape_of(line, self._delimiter)

    def _next(self) -> bytes | None:
        """Take the next line; None at the end."""
        if not self._waiting and not self._load():
            return None
        self.line_count += 1
        return self._waiting.popleft()

    def _peek(self, ahead: int) -> bytes | None:
        """Return the line that comes after so many others; None behind the end."""
        while len(self._waiting) <= ahead:
            if not self._load():
                return None
        return self._waiting[ahead]

    def _load(self) -> bool:
        """Read more lines, and return whether there are any."""
        lines, have_quotes = next(self._blocks, ([], False))
        numbers = range(self._loaded + 1, self._loaded + len(lines) + 1)
        if have_quotes:
            is_odd = map(not_, map(self._plain_row, lines))
        else:
            is_odd = map(ne, map(bytes.count, lines, repeat(self._delimiter)), repeat(self._fields - 1))
        self._odd.extend(compress(numbers, is_odd))
        self._waiting.extend(lines)
        self._loaded += len(lines)
        return bool(lines)


def _plain_row(fields: int, delimiter: bytes) -> Callable[[bytes], object]:
    """Return what tells whether a line is a row whose quotes are around a value, or doubled in it."""
    value = rb'(?:%s|[^"%s]*+)' % (_QUOTED.pattern, re.escape(delimiter))
    return re.compile(rb"%s(?:%s%s){%d}\s*" % (value, re.escape(delimiter), value, fields - 1)).fullmatch


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


def _blocks(name: str, stream: Any) -> Iterator[tuple[list[bytes], bool]]:
    r"""Yield the lines of a stream, many at a time, and whether there are quotes in them.

    They have their ends, any of \n, \r\n and \r.
    """
    rest, number = b"", 0
    while block := stream.read(BLOCK_BYTES):
        text = rest + block if rest else block.removeprefix(BYTE_ORDER_MARK)
        lines = text.splitlines(True)
        rest = lines.pop() if lines else b""
        if len(rest) > BLOCK_BYTES:
            raise DataError(f"{name}:{number + len(lines) + 1}: a line of more than {BLOCK_BYTES:,} bytes")
        number += len(lines)
        if lines:
            yield lines, b'"' in text
    if rest:
        yield rest.splitlines(True), True


def _shown(line: bytes) -> str:
    return repr(line.decode(errors="replace").rstrip("\r\n")[:200])
