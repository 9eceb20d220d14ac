"""The last N events of one user, and their binary value: the state that a worker keeps.

A window is a pure function of the *set* of events folded into it: it holds the last `max_events` by (event
time, arrival) that lie within `horizon_ms` of the newest, whatever order they came in. It also holds the
source offset applied last, so folding an event twice changes nothing, and how many events it ever saw, so
that what was published can be accounted for after any crash.

A worker keeps windows, in memory as on disk, as their binary values: fold.py folds events into them and
models/towers/features.py reads them, whole batches at once. `Window` is for whoever looks at one.

The value, little-endian, padded with zeros to a multiple of 8 bytes, n events and m edge hashes in it:

    header          HEADER: format, length of the topic id, m, n, partition, bytes of all item ids, bytes of
                    all categories, offset, applied, duplicate, late
    times_ms        n int64           event_hashes    n uint64          edge_hashes     m uint64
    item lengths    n uint16          category lengths n uint16         behaviours      n uint8
    item ids, categories, topic id    UTF-8, one behind the other
"""

import struct
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from models.errors import SettingsError, TwintideError

#: First byte of every value; raise it when the layout changes.
WINDOW_FORMAT = 2

HEADER = struct.Struct("<BBHIiIIxxxxqqqq")
_OFFSET, _OFFSET_AT = struct.Struct("<q"), 24

DAY_MS = 86_400_000

#: Edge hashes kept at most: a producer's duplicates come soon, and state must stay bounded.
MAX_EDGE_HASHES = 1024

#: The longest id of an item or category (bytes of UTF-8).
MAX_ID_BYTES = 65_535


class WindowError(TwintideError):
    """A stored value that is not a window of this version."""


@dataclass(frozen=True, slots=True)
class WindowSettings:
    """How much of a user's past a window keeps."""

    #: Events kept per user.
    max_events: int = 110
    #: Events older than this, counted back from the user's newest event, are dropped (ms).
    horizon_ms: int = 30 * DAY_MS

    def __post_init__(self) -> None:
        if self.max_events < 1:
            raise SettingsError(f"max_events is {self.max_events}; it must be at least 1")
        if self.horizon_ms < 1:
            raise SettingsError(f"horizon_ms is {self.horizon_ms}; it must be at least 1")


class Window(msgspec.Struct, array_like=True, gc=False):
    """One user's recent events, oldest first; event i is the i-th of each of the five lists.

    The order is by event time, ties by arrival, so that rows of one hour keep their order in the topic.
    """

    #: Where the last folded event came from. Offsets mean something only within one topic and partition:
    #: after a topic is deleted and made again they start anew, under another topic id.
    topic_id: str = ""
    partition: int = -1
    offset: int = -1
    #: How many events of this user were ever applied, were duplicates, or came too late.
    applied: int = 0
    duplicate: int = 0
    late: int = 0
    times_ms: list[int] = []
    behaviours: list[int] = []
    item_ids: list[str] = []
    categories: list[str] = []
    event_hashes: list[int] = []
    #: Hashes of events that fell out of a full window although they are as old as the oldest kept one: their
    #: duplicates would otherwise find room again.
    edge_hashes: list[int] = []

    def __len__(self) -> int:
        return len(self.times_ms)


@dataclass(frozen=True, slots=True)
class WindowHeader:
    """What a window says of itself before its events."""

    topic_id: str
    partition: int
    offset: int
    events: int
    #: Time of the newest event (ms), 0 where there is none.
    newest_ms: int

    def has_folded(self, topic_id: str, partition: int, offset: int) -> bool:
        """Return whether the event at this place of the source is already accounted for."""
        return offset <= self.offset and partition == self.partition and topic_id == self.topic_id


def window_to_bytes(window: Window) -> bytes:
    """Return the window's binary value."""
    items, item_lengths = _join(window.item_ids)
    categories, category_lengths = _join(window.categories)
    topic_id = window.topic_id.encode()
    header = HEADER.pack(
        *(WINDOW_FORMAT, len(topic_id), len(window.edge_hashes), len(window), window.partition),
        *(len(items), len(categories), window.offset, window.applied, window.duplicate, window.late),
    )
    columns = (
        array("q", window.times_ms),
        array("Q", window.event_hashes),
        array("Q", window.edge_hashes),
        array("H", item_lengths),
        array("H", category_lengths),
        array("B", window.behaviours),
    )
    value = b"".join((header, *(column.tobytes() for column in columns), items, categories, topic_id))
    return value + bytes(-len(value) % 8)


def window_from_bytes(value: bytes) -> Window:
    """Return the window of a stored value; WindowError where it is not one of this format."""
    header = _header(value)
    _, topic_bytes, edges, events, partition, item_bytes, category_bytes = header[:7]
    offset, applied, duplicate, late = header[7:]
    reader = _Reader(value)
    times_ms, event_hashes = reader.numbers("q", events), reader.numbers("Q", events)
    edge_hashes = reader.numbers("Q", edges)
    item_lengths, category_lengths = reader.numbers("H", events), reader.numbers("H", events)
    behaviours = reader.numbers("B", events)
    if sum(item_lengths) != item_bytes or sum(category_lengths) != category_bytes:
        raise WindowError(f"a stored window of {len(value)} bytes is damaged: its ids do not add up")
    item_ids, categories = reader.texts(item_lengths), reader.texts(category_lengths)
    (topic_id,) = reader.texts([topic_bytes])
    return Window(
        topic_id=topic_id,
        partition=partition,
        offset=offset,
        applied=applied,
        duplicate=duplicate,
        late=late,
        times_ms=times_ms,
        behaviours=behaviours,
        item_ids=item_ids,
        categories=categories,
        event_hashes=event_hashes,
        edge_hashes=edge_hashes,
    )


def read_header(value: bytes) -> WindowHeader:
    """Return what a stored value says of itself; WindowError where it is not a window of this format."""
    _, topic_bytes, edges, events, partition, item_bytes, category_bytes, offset = _header(value)[:8]
    newest_ms = struct.unpack_from("<q", value, HEADER.size + 8 * (events - 1))[0] if events else 0
    topic = HEADER.size + events * 21 + edges * 8 + item_bytes + category_bytes
    topic_id = value[topic : topic + topic_bytes].decode()
    return WindowHeader(topic_id, partition, offset, events, newest_ms)


def read_offset(value: bytes) -> int:
    """Return the source offset that a stored value has folded last."""
    offset: int = _OFFSET.unpack_from(value, _OFFSET_AT)[0]
    return offset


def is_empty(value: bytes) -> bool:
    """Return whether a stored window holds no event."""
    return not any(value[4:8])


def is_newer(value: bytes, known: bytes) -> bool:
    """Return whether a stored window has folded at least as much of its source as another of the same user.

    Windows of different topics cannot be compared by offset: then the one that comes later counts.
    """
    new, old = read_header(value), read_header(known)
    is_same_source = (new.topic_id, new.partition) == (old.topic_id, old.partition)
    return not is_same_source or new.offset >= old.offset


def _header(value: bytes) -> tuple[int, ...]:
    if not value or value[0] != WINDOW_FORMAT:
        raise WindowError(
            f"a stored window has format {value[:1].hex() or 'empty'}, this version reads "
            f"{WINDOW_FORMAT:02x}: it was written by another version; remove the table's data and "
            "changelog, or run that version"
        )
    header = HEADER.unpack_from(value) if len(value) >= HEADER.size else None
    if header is None or len(value) != value_bytes(*header[1:4], *header[5:7]):
        raise WindowError(f"a stored window of {len(value)} bytes is damaged: it is cut off or too long")
    return header


def value_bytes(topic_bytes: int, edges: int, events: int, item_bytes: int, category_bytes: int) -> int:
    """Return the length of a value with these parts, its padding included."""
    length = HEADER.size + events * 21 + edges * 8 + item_bytes + category_bytes + topic_bytes
    return length + -length % 8


def _join(ids: Sequence[str]) -> tuple[bytes, list[int]]:
    encoded = [each.encode() for each in ids]
    return b"".join(encoded), [len(each) for each in encoded]


class _Reader:
    """Reads the parts of a value, one behind the other."""

    def __init__(self, value: bytes) -> None:
        self._value = value
        self._place = HEADER.size

    def numbers(self, typecode: str, count: int) -> list[int]:
        """Return the next `count` numbers."""
        numbers = array(typecode)
        end = self._place + count * numbers.itemsize
        numbers.frombytes(self._value[self._place : end])
        self._place = end
        return numbers.tolist()

    def texts(self, lengths: Sequence[int]) -> list[str]:
        """Return the next texts of these lengths (bytes)."""
        texts = []
        for length in lengths:
            texts.append(self._value[self._place : self._place + length].decode())
            self._place += length
        return texts
