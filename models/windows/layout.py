"""Where each part of a window's binary value stands; no other file knows.

Needs neither NumPy nor Numba, for whoever reads single windows; compiled functions read them by buffer.py.

The value is little-endian and padded with zeros to a multiple of 8 bytes. With n events and m edge hashes:

    header          the fields of `Header`
    times_ms        n int64           event_hashes     n uint64         edge_hashes     m uint64
    item lengths    n uint16          category lengths n uint16         behaviours      n uint8
    item ids, categories, topic id    UTF-8, one behind the other
"""

import struct
from typing import NamedTuple

#: First byte of every value; raise it when the layout changes.
WINDOW_FORMAT = 2


class Header(NamedTuple):
    """The numbers at the start of a value, in their order; what they mean, see `Window`."""

    format: int
    #: Length of the topic id (bytes).
    topic_bytes: int
    edge_hashes: int
    events: int
    partition: int
    #: Length of all item ids, and of all categories (bytes).
    item_bytes: int
    category_bytes: int
    #: Always 0; the fields behind it begin at a multiple of 8 bytes.
    unused: int
    offset: int
    applied: int
    duplicate: int
    late: int

    def topic_place(self) -> int:
        """Return the byte at which the topic id begins: as `places_of` has it, for those who need no more."""
        texts = self.item_bytes + self.category_bytes
        return HEADER_BYTES + EVENT_BYTES * self.events + EDGE_HASH_BYTES * self.edge_hashes + texts


#: The types of these fields, as `struct` and NumPy both name them.
HEADER_TYPES = "BBHiiiiiqqqq"
HEADER = struct.Struct("<" + HEADER_TYPES)
HEADER_BYTES = HEADER.size


def _field(name: str) -> tuple[struct.Struct, int]:
    """Return what reads one field of the header, and at which byte it is."""
    place = Header._fields.index(name)
    return struct.Struct("<" + HEADER_TYPES[place]), struct.calcsize("<" + HEADER_TYPES[:place])


#: Readers of these alone, and where they are.
EVENTS, EVENTS_AT = _field("events")
OFFSET, OFFSET_AT = _field("offset")
#: A reader of one event's time.
TIME = struct.Struct("<q")

#: Bytes that an event takes beside its ids: time, hash, two lengths, behaviour.
EVENT_BYTES = 8 + 8 + 2 + 2 + 1
EDGE_HASH_BYTES = 8


class Places(NamedTuple):
    """The bytes of a buffer at which the parts of a value begin; `end`, a multiple of 8, is behind all."""

    times: int
    event_hashes: int
    edge_hashes: int
    item_lengths: int
    category_lengths: int
    behaviours: int
    items: int
    categories: int
    topic: int
    end: int


def places_of(
    start: int, events: int, edge_hashes: int, item_bytes: int, category_bytes: int, topic_bytes: int
) -> Places:
    """Return where the parts are of a value that begins at byte `start` and has parts of these sizes."""
    times = start + HEADER_BYTES
    event_hashes = times + 8 * events
    edges = event_hashes + 8 * events
    item_lengths = edges + EDGE_HASH_BYTES * edge_hashes
    category_lengths = item_lengths + 2 * events
    behaviours = category_lengths + 2 * events
    items = behaviours + events
    categories = items + item_bytes
    topic = categories + category_bytes
    end = (topic + topic_bytes + 7) // 8 * 8
    return Places(
        times, event_hashes, edges, item_lengths, category_lengths, behaviours, items, categories, topic, end
    )
