"""Columns of texts -> flat JSON objects, written by machine code byte for byte as msgspec writes them."""

from collections.abc import Mapping

import msgspec
import numpy as np

from models.arrays import Bytes, Ints
from models.compiled import compiled
from models.ids.texts import Texts
from models.payloads import Payloads

#: How a text is written: as JSON text, as it stands (a number), or as null whatever it is.
QUOTED, BARE, NULL = 0, 1, 2

_QUOTE, _BACKSLASH, _SPACE, _CLOSE = ord('"'), ord("\\"), ord(" "), ord("}")
#: What the letter of a short escape stands for, 0 where there is none; and the digits of the long ones.
_LETTERS = tuple(np.frombuffer(b"\0\0\0\0\0\0\0\0btn\0fr", np.uint8).tolist())
_DIGITS = tuple(np.frombuffer(b"0123456789abcdef", np.uint8).tolist())
#: Bytes of a long escape, such as \u001f.
_LONG = 6


def json_objects(fields: Mapping[str, tuple[Texts, Bytes]]) -> Payloads:
    """Return E objects with these fields in their order: E texts of each, and how each is written (E,)."""
    count = len(next(iter(fields.values()))[0])
    heads = [np.frombuffer(b",%b:" % msgspec.json.encode(name), np.uint8) for name in fields]
    lengths = np.full(count, sum(map(len, heads)) + 1, np.int64)
    for texts, how in fields.values():
        _add_lengths(texts.text, texts.starts, how, lengths)
    starts = np.zeros(count + 1, np.int64)
    np.cumsum(lengths, out=starts[1:])
    written, at = np.empty(starts[-1], np.uint8), starts[:-1].copy()
    for head, (texts, how) in zip(heads, fields.values(), strict=True):
        _write(head, texts.text, texts.starts, how, at, written)
    written[starts[:-1]], written[starts[1:] - 1] = ord("{"), _CLOSE
    written.setflags(write=False)  # as all texts: the loops are compiled for that
    return Payloads(written, starts, np.zeros(count, np.bool_))


@compiled
def _add_lengths(text: Bytes, starts: Ints, how: Bytes, lengths: Ints) -> None:
    """Add how many bytes each text has as it is written."""
    for row in range(len(lengths)):
        if how[row] == NULL:
            lengths[row] += 4
            continue
        lengths[row] += starts[row + 1] - starts[row]
        if how[row] == QUOTED:
            lengths[row] += 2
            for at in range(starts[row], starts[row + 1]):
                if _is_escaped(text[at]):
                    lengths[row] += _escape_length(text[at]) - 1


@compiled
def _is_escaped(byte: int) -> bool:
    return byte < _SPACE or byte in (_QUOTE, _BACKSLASH)


@compiled
def _escape_length(byte: int) -> int:
    return _LONG if byte < _SPACE and (byte >= len(_LETTERS) or _LETTERS[byte] == 0) else 2


@compiled
def _write(head: Bytes, text: Bytes, starts: Ints, how: Bytes, place: Ints, written: Bytes) -> None:
    """Write a field of each object at its place, which is then behind it."""
    for row in range(len(place)):
        to = place[row]
        for at in range(len(head)):
            written[to + at] = head[at]
        to += len(head)
        if how[row] == NULL:
            written[to], written[to + 1], written[to + 2], written[to + 3] = 110, 117, 108, 108
            place[row] = to + 4
            continue
        if how[row] == QUOTED:
            written[to] = _QUOTE
            to += 1
        for at in range(starts[row], starts[row + 1]):
            if _is_escaped(text[at]):
                to = _escape(text[at], to, written)
            else:
                written[to] = text[at]
                to += 1
        if how[row] == QUOTED:
            written[to] = _QUOTE
            to += 1
        place[row] = to


@compiled
def _escape(byte: int, to: int, written: Bytes) -> int:
    """Write a byte as an escape, and return the place behind it."""
    written[to] = _BACKSLASH
    if _escape_length(byte) == _LONG:
        written[to + 1], written[to + 2], written[to + 3] = ord("u"), _DIGITS[0], _DIGITS[0]
        written[to + 4], written[to + 5] = _DIGITS[byte >> 4], _DIGITS[byte & 15]
        return to + _LONG
    written[to + 1] = _LETTERS[byte] if byte < _SPACE else byte
    return to + 2
