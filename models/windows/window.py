"""The last N events of one user, and their binary value: the state that a worker keeps.

A window is a pure function of the *set* of events folded into it: it holds the last `max_events` by (event
time, arrival) that lie within `horizon_ms` of the newest, whatever order they came in. Where ids are so long
that these would not fit into a record of Kafka, it holds the last that do. It also holds the
source offset applied last, so folding an event twice changes nothing, and how many events it ever saw, so
that what was published can be accounted for after any crash.

A worker keeps windows, in memory as on disk, as their binary values: fold.py folds events into them and
columns.py reads them, whole batches at once. `Window` is for whoever looks at one.

models/windows/layout.py says where what stands in the value.
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from models.errors import SettingsError, TwintideError
from models.windows.layout import (
    EVENTS,
    EVENTS_AT,
    HEADER,
    HEADER_BYTES,
    OFFSET,
    OFFSET_AT,
    TIME,
    WINDOW_FORMAT,
    Header,
    places_of,
)

DAY_MS = 86_400_000

#: Edge hashes kept at most: a producer's duplicates come soon, and state must stay bounded.
MAX_EDGE_HASHES = 1024

#: The longest id of a user, item or category (bytes of UTF-8).
MAX_ID_BYTES = 65_535

#: What the events of a window take at most, ids included (bytes). With edge hashes and the longest user id it
#: is still below the million bytes that Kafka's clients and brokers take of one record by default.
MAX_EVENTS_BYTES = 900_000


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
    header = Header(
        format=WINDOW_FORMAT,
        topic_bytes=len(topic_id),
        edge_hashes=len(window.edge_hashes),
        events=len(window),
        partition=window.partition,
        item_bytes=len(items),
        category_bytes=len(categories),
        unused=0,
        offset=window.offset,
        applied=window.applied,
        duplicate=window.duplicate,
        late=window.late,
    )
    columns = (
        array("q", window.times_ms),
        array("Q", window.event_hashes),
        array("Q", window.edge_hashes),
        array("H", item_lengths),
        array("H", category_lengths),
        array("B", window.behaviours),
    )
    parts = (HEADER.pack(*header), *(column.tobytes() for column in columns), items, categories, topic_id)
    value = b"".join(parts)
    return value + bytes(-len(value) % 8)


def window_from_bytes(value: bytes) -> Window:
    """Return the window of a stored value; WindowError where it is not one of this format."""
    header, _ = _checked(value)
    count, edges = header.events, header.edge_hashes
    places = places_of(0, count, edges, header.item_bytes, header.category_bytes, header.topic_bytes)
    item_lengths = _numbers(value, "H", places.item_lengths, count)
    category_lengths = _numbers(value, "H", places.category_lengths, count)
    if sum(item_lengths) != header.item_bytes or sum(category_lengths) != header.category_bytes:
        raise WindowError(f"a stored window of {len(value)} bytes is damaged: its ids do not add up")
    return Window(
        topic_id=_texts(value, places.topic, [header.topic_bytes])[0],
        partition=header.partition,
        offset=header.offset,
        applied=header.applied,
        duplicate=header.duplicate,
        late=header.late,
        times_ms=_numbers(value, "q", places.times, count),
        behaviours=_numbers(value, "B", places.behaviours, count),
        item_ids=_texts(value, places.items, item_lengths),
        categories=_texts(value, places.categories, category_lengths),
        event_hashes=_numbers(value, "Q", places.event_hashes, count),
        edge_hashes=_numbers(value, "Q", places.edge_hashes, edges),
    )


def read_header(value: bytes) -> WindowHeader:
    """Return what a stored value says of itself; WindowError where it is not a window of this format."""
    header, topic = _checked(value)
    count = header.events
    newest_ms = TIME.unpack_from(value, HEADER_BYTES + TIME.size * (count - 1))[0] if count else 0
    topic_id = value[topic : topic + header.topic_bytes].decode()
    return WindowHeader(topic_id, header.partition, header.offset, count, newest_ms)


def read_offset(value: bytes) -> int:
    """Return the source offset that a stored value, which is not checked, has folded last."""
    offset: int = OFFSET.unpack_from(value, OFFSET_AT)[0]
    return offset


def is_empty(value: bytes) -> bool:
    """Return whether a stored window, which is not checked, holds no event."""
    events: int = EVENTS.unpack_from(value, EVENTS_AT)[0]
    return events == 0


def _checked(value: bytes) -> tuple[Header, int]:
    """Return the header, and the byte at which the topic id begins."""
    if not value or value[0] != WINDOW_FORMAT:
        raise WindowError(
            f"a stored window has format {value[:1].hex() or 'empty'}, this version reads "
            f"{WINDOW_FORMAT:02x}: it was written by another version; remove the table's data and "
            "changelog, or run that version"
        )
    if len(value) >= HEADER_BYTES:
        header = Header._make(HEADER.unpack_from(value))
        topic = header.topic_place()
        end = topic + header.topic_bytes
        is_sane = header.events >= 0 and header.item_bytes >= 0 and header.category_bytes >= 0
        if is_sane and len(value) == end + -end % 8:
            return header, topic
    raise WindowError(f"a stored window of {len(value)} bytes is damaged: it is cut off or too long")


def _join(ids: Sequence[str]) -> tuple[bytes, list[int]]:
    encoded = [each.encode() for each in ids]
    return b"".join(encoded), [len(each) for each in encoded]


def _numbers(value: bytes, typecode: str, place: int, count: int) -> list[int]:
    numbers = array(typecode)
    numbers.frombytes(value[place : place + count * numbers.itemsize])
    return numbers.tolist()


def _texts(value: bytes, place: int, lengths: Sequence[int]) -> list[str]:
    texts = []
    for length in lengths:
        texts.append(value[place : place + length].decode())
        place += length
    return texts
