"""Flat JSON objects of plain values -> where each of some fields stands, as machine code.

Plain is what nearly every event is: text of ASCII without escapes, whole numbers that are not negative. One
value that is anything else, or no JSON, and nothing is read here: Arrow and msgspec know what it means.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.arrays import Bytes, Flags, Ints
from models.compiled import compiled
from models.ids.hashing import eight_bytes, four_bytes, hashes_of_texts
from models.ids.texts import Texts, texts_of
from models.payloads import payloads_of

#: What stands at a field: nothing, text, a whole number, null, or what is of no use here (true, 1.5, -7).
MISSING, TEXT, NUMBER, NULL, OTHER = 0, 1, 2, 3, 4

#: Digits of the largest number that is read here; it fits into 64 bits.
MOST_DIGITS = 18

_QUOTE, _BACKSLASH, _OPEN, _CLOSE = ord('"'), ord("\\"), ord("{"), ord("}")
_COLON, _COMMA, _MINUS, _PLUS, _POINT = ord(":"), ord(","), ord("-"), ord("+"), ord(".")
_ZERO, _NINE, _SPACE = ord("0"), ord("9"), ord(" ")
#: The same in every byte of a word; bytes below a space have none of the upper bits.
_LOW_BITS, _HIGH_BITS = np.uint64(0x0101010101010101), np.uint64(0x8080808080808080)
_QUOTES, _BACKSLASHES = np.uint64(_QUOTE) * _LOW_BITS, np.uint64(_BACKSLASH) * _LOW_BITS
_UPPER_BITS, _NUMBERS = np.uint64(0xE0) * _LOW_BITS, np.uint64(0x0001020304050607)
#: Words of JSON as numbers, the first byte the lowest.
_NULL, _TRUE, _ALSE = (np.uint64(int.from_bytes(word, "little")) for word in (b"null", b"true", b"alse"))


@dataclass(frozen=True, slots=True)
class PlainObjects:
    """V objects of which F fields are known.

    text: all of them, one behind the other; kinds (V, F) uint8; spans (V, F, 2): where what stands there
    begins and ends in the text.
    """

    text: Bytes
    kinds: Bytes
    spans: Ints

    def are(self, field: int, *kinds: int) -> bool:
        """Return whether one of these kinds stands at a field everywhere."""
        of_field = self.kinds[:, field]
        return bool(np.logical_or.reduce([of_field == kind for kind in kinds]).all())

    def texts(self, field: int) -> Texts:
        """Return the texts, or numbers as they are written, of a field; empty where there is none."""
        spans = self.spans[:, field]
        starts = np.zeros(len(spans) + 1, np.int64)
        np.cumsum(spans[:, 1] - spans[:, 0], out=starts[1:])
        found = np.empty(starts[-1], np.uint8)
        _gather(self.text, spans, starts, found)
        found.setflags(write=False)  # as all texts: the fold is compiled for that
        return Texts(found, starts)

    def numbers(self, field: int) -> Ints:
        """Return the numbers of a field, which stand there everywhere (V,)."""
        numbers = np.empty(len(self.spans), np.int64)
        _read_numbers(self.text, self.spans[:, field], numbers)
        return numbers


def read_plain(values: Sequence[bytes | None], fields: Sequence[str]) -> PlainObjects | None:
    """Return where the fields of the objects stand, None where any is no plain flat object."""
    given, names = payloads_of(values), texts_of(fields)
    text, starts = given.text, given.starts
    kinds = np.zeros((len(values), len(names)), np.uint8)
    spans = np.zeros((len(values), len(names), 2), np.int64)
    are_plain = _scan(text, starts, names.text, names.starts, kinds, spans)
    return PlainObjects(text, kinds, spans) if are_plain else None


def read_each_plain(values: Sequence[bytes | None], fields: Sequence[str]) -> tuple[PlainObjects, Flags]:
    """Return where the fields of the objects stand, and which are plain (V,): of others nothing counts."""
    given, names = payloads_of(values), texts_of(fields)
    kinds = np.zeros((len(given), len(names)), np.uint8)
    spans = np.zeros((len(given), len(names), 2), np.int64)
    are_plain = np.zeros(len(given), np.bool_)
    _scan_each(given.text, given.starts, names.text, names.starts, kinds, spans, are_plain)
    return PlainObjects(given.text, kinds, spans), are_plain


def compile_plain() -> None:
    """Compile what reads plain events and hashes their ids, or load it: no event should wait for that."""
    plain = read_plain([b'{"id": "a", "number": 1}'], ["id", "number"])
    if plain:
        plain.numbers(1)
        hashes_of_texts(plain.texts(0))


@compiled
def _gather(text: Bytes, spans: Ints, starts: Ints, found: Bytes) -> None:
    for row in range(len(spans)):
        shift = spans[row, 0] - starts[row]
        for at in range(starts[row], starts[row + 1]):
            found[at] = text[at + shift]


@compiled
def _read_numbers(text: Bytes, spans: Ints, numbers: Ints) -> None:
    for row in range(len(spans)):
        number = 0
        for at in range(spans[row, 0], spans[row, 1]):
            number = 10 * number + (np.int64(text[at]) - _ZERO)  # type: ignore[assignment]
        numbers[row] = number


@compiled
def _scan(text: Bytes, starts: Ints, names: Bytes, name_starts: Ints, kinds: Bytes, spans: Ints) -> bool:
    for row in range(len(starts) - 1):
        begin, end = starts[row], starts[row + 1]
        if not _scan_object(text, begin, end, names, name_starts, kinds[row], spans[row]):
            return False
    return True


@compiled
def _scan_each(
    text: Bytes, starts: Ints, names: Bytes, name_starts: Ints, kinds: Bytes, spans: Ints, are_plain: Flags
) -> None:
    for row in range(len(are_plain)):
        begin, end = starts[row], starts[row + 1]
        are_plain[row] = _scan_object(text, begin, end, names, name_starts, kinds[row], spans[row])


@compiled
def _scan_object(
    text: Bytes,
    begin: int,
    end: int,
    names: Bytes,
    name_starts: Ints,
    kinds: Bytes,
    spans: Ints,
) -> bool:
    """Note what stands at each field of an object with at least one; return whether it is plain."""
    at, expected = _past_space(text, begin, end), _OPEN
    while at < end and text[at] == expected:
        at = _past_space(text, at + 1, end)
        name_end = _end_of_text(text, at, end)
        if name_end < 0:
            return False
        field = _field_of(text, at + 1, name_end, names, name_starts)
        at = _past_space(text, name_end + 1, end)
        if at == end or text[at] != _COLON:
            return False
        at = _past_space(text, at + 1, end)
        closing = _end_of_text(text, at, end)
        if closing >= 0:
            kind, value_end = TEXT, closing + 1
        else:
            kind, value_end = _scan_other(text, at, end)
            if kind == MISSING:
                return False
        if field >= 0:
            if kinds[field] != MISSING:  # twice
                return False
            kinds[field] = kind
            if kind == TEXT:
                spans[field, 0], spans[field, 1] = at + 1, value_end - 1
            elif kind == NUMBER:
                spans[field, 0], spans[field, 1] = at, value_end
        at, expected = _past_space(text, value_end, end), _COMMA
    return expected == _COMMA and at < end and text[at] == _CLOSE and _past_space(text, at + 1, end) == end


@compiled
def _past_space(text: Bytes, at: int, end: int) -> int:
    while at < end and (text[at] == _SPACE or 9 <= text[at] <= 10 or text[at] == 13):
        at += 1
    return at


@compiled
def _end_of_text(text: Bytes, at: int, end: int) -> int:
    """Return where the text that begins here has its closing quote, -1 where it is not plain."""
    if at >= end or text[at] != _QUOTE:
        return -1
    begin = at + 1
    while begin + 8 <= end:
        word = eight_bytes(text, begin)
        special = _zeros(word ^ _QUOTES) | _zeros(word ^ _BACKSLASHES) | _zeros(word & _UPPER_BITS)
        special = (special | word) & _HIGH_BITS
        if special:
            begin += _first_byte(special)
            break
        begin += 8
    for place in range(begin, end):
        byte = text[place]
        if byte == _QUOTE:
            return place
        if byte == _BACKSLASH or byte < _SPACE or byte > 126:
            return -1
    return -1


@compiled
def _zeros(word: np.uint64) -> np.uint64:
    """Return a word of which the first high bit of a byte says where the first zero byte is."""
    return (word - _LOW_BITS) & ~word


@compiled
def _first_byte(high_bits: np.uint64) -> int:
    """Return the number of the first byte whose high bit is set; of no byte any other is."""
    first = (high_bits & (~high_bits + np.uint64(1))) >> np.uint64(7)
    return np.int64((first * _NUMBERS) >> np.uint64(56))  # type: ignore[return-value]


@compiled
def _field_of(text: Bytes, begin: int, end: int, names: Bytes, name_starts: Ints) -> int:
    for field in range(len(name_starts) - 1):
        first = name_starts[field]
        if end - begin == name_starts[field + 1] - first:
            place = begin
            while place < end and text[place] == names[first + place - begin]:
                place += 1
            if place == end:
                return field
    return -1


@compiled
def _scan_other(text: Bytes, at: int, end: int) -> tuple[int, int]:
    """Return the kind of what is here and no text, MISSING where it is not plain, and where it ends."""
    if at < end and (text[at] == _MINUS or _ZERO <= text[at] <= _NINE):
        return _scan_number(text, at, end)
    if at + 4 <= end:
        word = four_bytes(text, at)
        if word == _NULL:
            return NULL, at + 4
        if word == _TRUE:
            return OTHER, at + 4
    if at + 5 <= end and text[at] == ord("f") and four_bytes(text, at + 1) == _ALSE:
        return OTHER, at + 5
    return MISSING, at


@compiled
def _scan_number(text: Bytes, at: int, end: int) -> tuple[int, int]:
    begin = at
    if text[at] == _MINUS:
        at += 1
    digits = _past_digits(text, at, end)
    if digits == at or (text[at] == _ZERO and digits > at + 1):
        return MISSING, at
    kind = NUMBER if at == begin and digits - at <= MOST_DIGITS else OTHER
    if digits < end and text[digits] == _POINT:
        at, kind = digits + 1, OTHER
        digits = _past_digits(text, at, end)
        if digits == at:
            return MISSING, at
    if digits < end and (text[digits] == 69 or text[digits] == 101):  # E, e
        at, kind = digits + 1, OTHER
        if at < end and (text[at] == _PLUS or text[at] == _MINUS):
            at += 1
        digits = _past_digits(text, at, end)
        if digits == at:
            return MISSING, at
    return kind, digits


@compiled
def _past_digits(text: Bytes, at: int, end: int) -> int:
    while at < end and _ZERO <= text[at] <= _NINE:
        at += 1
    return at
