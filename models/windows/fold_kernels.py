"""The fold of events into windows, as machine code: each user's window is decoded, folded into, and encoded.

What a fold does is said by `Window` (models/windows/window.py) and, event by event in plain Python, by
models/windows/reference.py; a test holds the two together.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from models.arrays import Bytes, Ints
from models.compiled import compiled
from models.windows.layout import (
    EDGE_HASH_BYTES,
    EVENT_BYTES,
    WINDOW_FORMAT,
    Buffer,
    buffer_of,
    compiled_places_of,
    find_places,
)
from models.windows.window import MAX_EDGE_HASHES


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


#: What became of a user's events, and the time of the window's newest, 0 where it is empty.
COUNTS = np.dtype([(name, np.int64) for name in ("applied", "duplicate", "late", "redelivered", "newest_ms")])

#: A window in a `Room`: its events are those from `head` to `tail`, its edge hashes those from `edge_head` to
#: `edge_tail`; old_events: how many its value held; offset: the last one known of the events' source.
WINDOW = np.dtype(
    [(name, np.int64) for name in ("old_events", "head", "tail", "edge_head", "edge_tail", "offset")]
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
def fold_users(
    old_values: Ints,
    old_starts: Ints,
    batch: Batch,
    rules: Rules,
    new_values: Ints,
    new_starts: Ints,
    counts: Records,
) -> int:
    """Fold each user's events; return the first user whose value is damaged, -1 where none is.

    old_starts, new_starts (U + 1,) are the bytes where the users' values begin; what is left as it was has no
    new value. counts (U,) are `COUNTS`, zeros at first.
    """
    old, new = buffer_of(old_values), buffer_of(new_values)
    room = _room_for(old_starts, batch)
    end, users = 0, len(old_starts) - 1
    for first in range(0, users, BLOCK_USERS):
        last = min(first + BLOCK_USERS, users)
        damaged = _decode(old, old_starts, batch, rules, room, first, last)
        if damaged >= 0:
            return damaged
        _fold(batch, rules, room, counts, first, last)
        end = _encode(old, old_starts, batch, rules, room, counts, new, new_starts, first, last, end)
    new_starts[users] = end
    return -1


@compiled
def _room_for(old_starts: Ints, batch: Batch) -> Room:
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
def _decode(
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
        coming = batch_starts[user + 1] - batch_starts[user]
        head, edge_head = head + n + coming, edge_head + n + m + coming
    return -1


@compiled
def _fold(batch: Batch, rules: Rules, room: Room, counts: Records, first: int, last: int) -> None:
    """Fold the users' events into the windows in the room, and count what became of them."""
    order, offsets, event_times, event_hashes = batch.order, batch.offsets, batch.times_ms, batch.hashes
    times_ms, hashes, sources, edge_hashes = room.times_ms, room.hashes, room.sources, room.edge_hashes
    windows, starts = room.windows, batch.starts
    max_events, horizon_ms = rules.max_events, rules.horizon_ms
    for user in range(first, last):
        window, count = windows[user - first], counts[user]
        head, tail, edge_tail, known_offset = window.head, window.tail, window.edge_tail, window.offset
        for ordinal in range(starts[user], starts[user + 1]):
            event = order[ordinal]
            if offsets[event] <= known_offset:
                count.redelivered += 1
                continue
            window.offset = offsets[event]
            time_ms, event_hash = event_times[event], event_hashes[event]
            if _holds(hashes, head, tail, event_hash) or _holds(
                edge_hashes, window.edge_head, edge_tail, event_hash
            ):
                count.duplicate += 1
            elif _is_late(times_ms, head, tail, time_ms, max_events, horizon_ms):
                count.late += 1
            else:
                count.applied += 1
                at = tail
                while at > head and times_ms[at - 1] > time_ms:
                    times_ms[at], hashes[at] = times_ms[at - 1], hashes[at - 1]
                    sources[at] = sources[at - 1]
                    at -= 1
                times_ms[at], hashes[at], sources[at] = time_ms, event_hash, window.old_events + event
                tail += 1
                kept = _oldest_kept(times_ms, head, tail, max_events, horizon_ms)
                if kept > head:
                    edge_tail = _remember(
                        times_ms, hashes, head, kept, edge_hashes, window.edge_head, edge_tail
                    )
                    head = kept
        window.head, window.tail, window.edge_tail = head, tail, edge_tail
        count.newest_ms = times_ms[tail - 1] if tail > head else 0


@compiled
def _holds(hashes: Ints, start: int, end: int, wanted: int) -> bool:
    found = 0
    for each in hashes[start:end]:  # to the end always: so the compiler can compare several at once
        found += each == wanted
    return found > 0


@compiled
def _is_late(times_ms: Ints, head: int, tail: int, time_ms: int, max_events: int, horizon_ms: int) -> bool:
    if head == tail:
        return False
    is_full = tail - head >= max_events
    return time_ms < times_ms[tail - 1] - horizon_ms or (is_full and time_ms < times_ms[head])


@compiled
def _oldest_kept(times_ms: Ints, head: int, tail: int, max_events: int, horizon_ms: int) -> int:
    """Return the window's new head: what is before it is too much or too old."""
    kept = max(head, tail - max_events)
    while times_ms[kept] < times_ms[tail - 1] - horizon_ms:
        kept += 1
    return kept


@compiled
def _remember(
    times_ms: Ints, hashes: Ints, head: int, kept: int, edge_hashes: Ints, edge_head: int, edge_tail: int
) -> int:
    """Remember the hashes of what falls out and is as old as the oldest kept; return where they end now."""
    if times_ms[head] < times_ms[kept]:
        edge_tail = edge_head
    first = kept
    while first > head and times_ms[first - 1] == times_ms[kept]:
        first -= 1
    for i in range(first, kept):
        edge_hashes[edge_tail] = hashes[i]
        edge_tail += 1
    surplus = edge_tail - edge_head - MAX_EDGE_HASHES
    if surplus > 0:
        edge_tail -= surplus
        for i in range(edge_head, edge_tail):
            edge_hashes[i] = edge_hashes[surplus + i]
    return edge_tail


@compiled
def _encode(
    old: Buffer,
    old_starts: Ints,
    batch: Batch,
    rules: Rules,
    room: Room,
    counts: Records,
    new: Buffer,
    new_starts: Ints,
    first: int,
    last: int,
    end: int,
) -> int:
    """Write the new values of those users whose windows have changed at byte `end`; return where they end."""
    int64s, uint8s, old_uint8s, sources = new.int64s, new.uint8s, old.uint8s, room.sources
    times_ms, hashes, edge_hashes = room.times_ms, room.hashes, room.edge_hashes
    headers, old_headers, uint16s, old_uint16s = new.headers, old.headers, new.uint16s, old.uint16s
    item_text, item_starts = batch.item_text, batch.item_starts
    category_text, category_starts = batch.category_text, batch.category_starts
    behaviours, starts, topic_id = batch.behaviours, batch.starts, rules.topic
    item_places, category_places = room.item_places, room.category_places
    windows = room.windows
    for user in range(first, last):
        new_starts[user] = end
        if counts[user].redelivered == starts[user + 1] - starts[user]:
            continue
        window = windows[user - first]
        n, head, edge_head = window.old_events, window.head, window.edge_head
        count, edges = window.tail - head, window.edge_tail - edge_head
        old_places = find_places(old_headers, old_starts[user], old_starts[user + 1] - old_starts[user])
        _place_ids(old_uint16s, old_places.item_lengths // 2, n, old_places.items, item_places)
        _place_ids(old_uint16s, old_places.category_lengths // 2, n, old_places.categories, category_places)
        # How long the ids are is known only once they are written.
        places = compiled_places_of(end, count, edges, 0, 0, 0)
        times, new_hashes, new_edges = places.times // 8, places.event_hashes // 8, places.edge_hashes // 8
        for i in range(count):
            source = sources[head + i]
            int64s[times + i], int64s[new_hashes + i] = times_ms[head + i], hashes[head + i]
            uint8s[places.behaviours + i] = (
                old_uint8s[old_places.behaviours + source] if source < n else behaviours[source - n]
            )
        for i in range(edges):
            int64s[new_edges + i] = edge_hashes[edge_head + i]
        kept = sources[head : head + count]
        categories = _copy_ids(
            *(kept, n, old_uint8s, item_places, item_text, item_starts),
            *(uint8s, places.items, uint16s[places.item_lengths // 2 :]),
        )
        topic = _copy_ids(
            *(kept, n, old_uint8s, category_places, category_text, category_starts),
            *(uint8s, categories, uint16s[places.category_lengths // 2 :]),
        )
        header = headers[end // 8]
        header.format, header.topic_bytes, header.edge_hashes = WINDOW_FORMAT, len(topic_id), edges
        header.events, header.partition, header.unused = count, rules.partition, 0
        header.item_bytes, header.category_bytes = categories - places.items, topic - categories
        header.offset, header.applied = window.offset, counts[user].applied
        header.duplicate, header.late = counts[user].duplicate, counts[user].late
        if old_places.end >= 0:
            _add_counts(header, old_headers[old_starts[user] // 8])
        end = _copy(topic_id, 0, len(topic_id), uint8s, topic)
        while end % 8:
            uint8s[end] = 0
            end += 1
    return end


@compiled
def _add_counts(header: Any, before: Any) -> None:
    header.applied += before.applied
    header.duplicate += before.duplicate
    header.late += before.late


@compiled
def _place_ids(lengths: npt.NDArray[np.uint16], at: int, n: int, start: int, places: Ints) -> None:
    """Write where each of n ids begins and the last one ends: one behind the other from byte `start` on."""
    places[0] = start
    for i in range(n):
        start += lengths[at + i]
        places[i + 1] = start


@compiled
def _copy_ids(
    sources: Ints,
    n: int,
    old8: Bytes,
    old_places: Ints,
    text: Bytes,
    starts: Ints,
    new8: Bytes,
    write: int,
    lengths: npt.NDArray[np.uint16],
) -> int:
    """Write the ids of these sources one behind the other, and their lengths; return where they end."""
    i = 0
    while i < len(sources):
        source = sources[i]
        if source >= n:
            first, last = starts[source - n], starts[source - n + 1]
            lengths[i] = last - first
            write = _copy(text, first, last, new8, write)
            i += 1
            continue
        first = source  # old events mostly stand as they stood: they are copied in runs
        while i < len(sources) and sources[i] == source and source < n:
            lengths[i] = old_places[source + 1] - old_places[source]
            i += 1
            source += 1
        write = _copy(old8, old_places[first], old_places[source], new8, write)
    return write


@compiled
def _copy(text: Bytes, first: int, last: int, new8: Bytes, write: int) -> int:
    source, target = text[first:last], new8[write : write + last - first]
    for place in range(len(source)):
        target[place] = source[place]
    return write + last - first
