"""Windows' values -> memory in which events are folded into them; machine code, the first step of a fold."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from models.arrays import Bytes, Ints
from models.compiled import compiled
from models.windows.buffer import Buffer, find_places
from models.windows.layout import EDGE_HASH_BYTES, EVENT_BYTES


class Batch(NamedTuple):
    """E events of U users: `order[starts[u]:starts[u + 1]]` are the events of user u, in their order.

    offsets, times_ms, hashes (E,) int64; behaviours (E,); the ids as in `Texts`. Only the equality of
    hashes counts, so they are compared as int64.
    """

    order: Ints
    starts: Ints
    offsets: Ints
    times_ms: Ints
    behaviours: Bytes
    hashes: Ints
    item_text: Bytes
    item_starts: Ints
    category_text: Bytes
    category_starts: Ints


class Rules(NamedTuple):
    """Where the events come from, and how much a window keeps."""

    topic: Bytes
    partition: int
    max_events: int
    horizon_ms: int
    #: What the events of a window may take, ids included (bytes).
    max_bytes: int


#: What became of a user's events, and the time of the window's newest, 0 where it is empty.
COUNTS = np.dtype([(name, np.int64) for name in ("applied", "duplicate", "late", "redelivered", "newest_ms")])

#: A window in a `Room`: its events are those from `head` to `tail`, its edge hashes those from `edge_head` to
#: `edge_tail`; old_events: how many its value held; offset: the last one known of the events' source.
#: may_outgrow: 1 where the new events might make it larger than it may be.
WINDOW = np.dtype(
    [
        (name, np.int64)
        for name in ("old_events", "head", "tail", "edge_head", "edge_tail", "offset", "may_outgrow")
    ]
)

#: An array of `COUNTS`, `WINDOW` or `Header`.
Records = npt.NDArray[np.void]


class Room(NamedTuple):
    """Memory for a block of B windows while events are folded into them.

    windows (B,): see `WINDOW`. sources: an event's place in the old window, or old_events + its place in the
    batch.
    """

    windows: Records
    times_ms: Ints
    hashes: Ints
    sources: Ints
    edge_hashes: Ints
    item_places: Ints
    category_places: Ints


#: Users that go through each of the three steps together: for every array that a compiled function gets, a
#: call counts references, and their events still fit a CPU's second cache.
BLOCK_USERS = 64


@compiled
def room_for(old_starts: Ints, batch: Batch) -> Room:
    """Return room for the largest block of windows together with their new events."""
    users, most_bytes, most_events = len(old_starts) - 1, 0, 0
    for first in range(0, users, BLOCK_USERS):
        last = min(first + BLOCK_USERS, users)
        value_bytes = old_starts[last] - old_starts[first]
        events = value_bytes // EVENT_BYTES + batch.starts[last] - batch.starts[first]
        most_bytes, most_events = max(most_bytes, value_bytes), max(most_events, events)
    return Room(
        np.empty(min(users, BLOCK_USERS), WINDOW),
        *(np.empty(most_events, np.int64), np.empty(most_events, np.int64), np.empty(most_events, np.int64)),
        np.empty(most_bytes // EDGE_HASH_BYTES + most_events, np.int64),
        *(np.empty(most_events + 1, np.int64), np.empty(most_events + 1, np.int64)),
    )


@compiled
def decode(
    old: Buffer, old_starts: Ints, batch: Batch, rules: Rules, room: Room, first: int, last: int
) -> int:
    """Bring the users' times and hashes into the room; return the first damaged one, -1 where none is."""
    headers, int64s, uint8s = old.headers, old.int64s, old.uint8s
    times_ms, hashes, sources, edge_hashes = room.times_ms, room.hashes, room.sources, room.edge_hashes
    windows, batch_starts, topic_id, head, edge_head = room.windows, batch.starts, rules.topic, 0, 0
    for user in range(first, last):
        start, n, m, offset = old_starts[user], 0, 0, -1
        if old_starts[user + 1] > start:
            places = find_places(headers, start, old_starts[user + 1] - start)
            if places.end < 0:
                return user
            header = headers[start // 8]
            n, m = header.events, header.edge_hashes
            is_same_source = header.partition == rules.partition and header.topic_bytes == len(topic_id)
            for place in range(header.topic_bytes if is_same_source else 0):
                is_same_source = is_same_source and uint8s[places.topic + place] == topic_id[place]
            offset = header.offset if is_same_source else -1
            old_times, old_hashes = places.times // 8, places.event_hashes // 8
            for i in range(n):
                times_ms[head + i], hashes[head + i] = int64s[old_times + i], int64s[old_hashes + i]
                sources[head + i] = i
            for i in range(m):
                edge_hashes[edge_head + i] = int64s[places.edge_hashes // 8 + i]
        window = windows[user - first]
        window.old_events, window.offset, window.head, window.tail = n, offset, head, head + n
        window.edge_head, window.edge_tail = edge_head, edge_head + m
        window.may_outgrow = _may_outgrow(batch, rules, user, old_starts[user + 1] - start)
        coming = batch_starts[user + 1] - batch_starts[user]
        head, edge_head = head + n + coming, edge_head + n + m + coming
    return -1


@compiled
def _may_outgrow(batch: Batch, rules: Rules, user: int, old_bytes: int) -> bool:
    """Return whether the user's window might take more bytes than it may, if it kept all events."""
    events = batch.starts[user + 1] - batch.starts[user]
    if old_bytes + events * EVENT_BYTES + len(batch.item_text) + len(batch.category_text) <= rules.max_bytes:
        return False  # not even with the ids of the whole batch
    for ordinal in range(batch.starts[user], batch.starts[user + 1]):
        old_bytes += EVENT_BYTES + new_id_bytes(batch, batch.order[ordinal])
    return bool(old_bytes > rules.max_bytes)


@compiled
def new_id_bytes(batch: Batch, event: int) -> int:
    """Return how long the ids of an event of the batch are."""
    items, categories = batch.item_starts, batch.category_starts
    return int(items[event + 1] - items[event] + categories[event + 1] - categories[event])
