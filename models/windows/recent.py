"""A window's newest events as compact bytes, which rankers read from Redis; needs neither NumPy nor Numba.

Little-endian; with n events, oldest first:

    header            format uint8 (1), bytes of an age uint8 (4 or 8), bytes of a length uint8 (1 or 2), 0,
                      n uint32, time of the newest event int64 (ms), bytes of all item ids uint32
    ages              n, ms before the newest event
    item lengths      n        category lengths n (bytes)        behaviours n uint8
    item ids, categories       UTF-8, one behind the other
"""

import struct
from array import array
from typing import NamedTuple

import msgspec

from models.windows.layout import HEADER, WINDOW_FORMAT, Header, places_of
from models.windows.window import WindowError, read_header

#: First byte of every value; raise it when the layout changes.
RECENT_FORMAT = 1

_HEADER = struct.Struct("<BBBxIqI")

#: Bytes of a number -> what `array` calls an unsigned one.
_UNSIGNED = {1: "B", 2: "H", 4: "I", 8: "Q"}


class RecentEvent(NamedTuple):
    """One event; an empty category is unknown."""

    item_id: str
    category: str
    behaviour: int
    time_ms: int


class _Columns(NamedTuple):
    """n events; item_text holds the item ids one behind the other, category_text the categories."""

    times_ms: list[int]
    item_lengths: list[int]
    category_lengths: list[int]
    behaviours: bytes
    item_text: bytes
    category_text: bytes


def recent_of_window(window: bytes, events: int) -> bytes:
    """Return the newest events, so many at most, of a window's binary value; empty where there is none.

    Raises WindowError where the value is no window.
    """
    count = min(events, read_header(window).events)
    if not count:
        return b""
    header = Header._make(HEADER.unpack_from(window))
    n, skipped = header.events, header.events - count
    places = places_of(0, n, header.edge_hashes, header.item_bytes, header.category_bytes, 0)
    item_lengths = _numbers(window, 2, places.item_lengths, n)
    category_lengths = _numbers(window, 2, places.category_lengths, n)
    return _to_bytes(
        _Columns(
            _signed(window, places.times + 8 * skipped, count),
            item_lengths[skipped:],
            category_lengths[skipped:],
            window[places.behaviours + skipped : places.items],
            window[places.items + sum(item_lengths[:skipped]) : places.categories],
            window[places.categories + sum(category_lengths[:skipped]) : places.topic],
        )
    )


def event_count(recent: bytes) -> int:
    """Return how many events there are. Raises WindowError where the bytes are none of ours."""
    return len(_columns(recent).times_ms) if recent else 0


def recent_events(recent: bytes) -> list[RecentEvent]:
    """Return the events, oldest first. Raises WindowError where the bytes are none of ours."""
    if not recent:
        return []
    columns = _columns(recent)
    item_ids = _texts(columns.item_text, columns.item_lengths)
    categories = _texts(columns.category_text, columns.category_lengths)
    rows = zip(item_ids, categories, columns.behaviours, columns.times_ms, strict=True)
    return [RecentEvent(*row) for row in rows]


def recent_item_ids(recent: bytes) -> tuple[str, ...]:
    """Return the events' items, oldest first; also of a JSON list of them, as earlier workers wrote it."""
    if recent[:1] == b"[":
        return tuple(msgspec.json.decode(recent, type=list[str]))
    if not recent:
        return ()
    columns = _columns(recent)
    return tuple(_texts(columns.item_text, columns.item_lengths))


def window_of_recent(recent: bytes) -> bytes:
    """Return a window's binary value with these events, of no source: `read_windows` reads many at once.

    Without events where there are none, or a JSON list of items alone. Raises WindowError as above.
    """
    is_json = recent[:1] == b"["
    columns = _columns(recent) if recent and not is_json else _Columns([], [], [], b"", b"", b"")
    n = len(columns.times_ms)
    item_bytes, category_bytes = len(columns.item_text), len(columns.category_text)
    header = Header(WINDOW_FORMAT, 0, 0, n, -1, item_bytes, category_bytes, 0, -1, n, 0, 0)
    value = b"".join(
        (
            HEADER.pack(*header),
            array("q", columns.times_ms).tobytes(),
            bytes(8 * n),  # hashes
            array("H", columns.item_lengths).tobytes(),
            array("H", columns.category_lengths).tobytes(),
            *(columns.behaviours, columns.item_text, columns.category_text),
        )
    )
    return value + bytes(-len(value) % 8)


def _to_bytes(columns: _Columns) -> bytes:
    newest_ms = columns.times_ms[-1]
    ages_ms = [newest_ms - time_ms for time_ms in columns.times_ms]
    age_bytes = 4 if ages_ms[0] < 1 << 32 else 8
    longest = max(*columns.item_lengths, *columns.category_lengths)
    length_bytes = 1 if longest < 1 << 8 else 2
    header = (RECENT_FORMAT, age_bytes, length_bytes, len(ages_ms), newest_ms, len(columns.item_text))
    lengths = _UNSIGNED[length_bytes]
    return b"".join(
        (
            _HEADER.pack(*header),
            array(_UNSIGNED[age_bytes], ages_ms).tobytes(),
            array(lengths, columns.item_lengths).tobytes(),
            array(lengths, columns.category_lengths).tobytes(),
            *(columns.behaviours, columns.item_text, columns.category_text),
        )
    )


def _columns(recent: bytes) -> _Columns:
    """Return what the bytes hold; WindowError where they are damaged or of another format."""
    if recent[0] != RECENT_FORMAT:
        raise WindowError(
            f"a stored history has format {recent[:1].hex()}, this version reads {RECENT_FORMAT:02x}: it was "
            "written by another version of the worker; restart the workers with this one"
        )
    damaged = WindowError(f"a stored history of {len(recent)} bytes is damaged: it is cut off or too long")
    if len(recent) < _HEADER.size:
        raise damaged
    _, age_bytes, length_bytes, n, newest_ms, item_bytes = _HEADER.unpack_from(recent)
    ages = _HEADER.size
    item_lengths_at = ages + age_bytes * n
    category_lengths_at = item_lengths_at + length_bytes * n
    behaviours = category_lengths_at + length_bytes * n
    items = behaviours + n
    categories = items + item_bytes
    if age_bytes not in (4, 8) or length_bytes not in (1, 2) or len(recent) < categories:
        raise damaged
    item_lengths = _numbers(recent, length_bytes, item_lengths_at, n)
    category_lengths = _numbers(recent, length_bytes, category_lengths_at, n)
    if sum(item_lengths) != item_bytes or sum(category_lengths) != len(recent) - categories:
        raise damaged
    return _Columns(
        [newest_ms - age_ms for age_ms in _numbers(recent, age_bytes, ages, n)],
        item_lengths,
        category_lengths,
        recent[behaviours:items],
        recent[items:categories],
        recent[categories:],
    )


def _numbers(value: bytes, number_bytes: int, place: int, count: int) -> list[int]:
    numbers = array(_UNSIGNED[number_bytes])
    numbers.frombytes(value[place : place + count * number_bytes])
    return numbers.tolist()


def _signed(value: bytes, place: int, count: int) -> list[int]:
    numbers = array("q")
    numbers.frombytes(value[place : place + count * 8])
    return numbers.tolist()


def _texts(text: bytes, lengths: list[int]) -> list[str]:
    texts, place = [], 0
    for length in lengths:
        texts.append(text[place : place + length].decode())
        place += length
    return texts
