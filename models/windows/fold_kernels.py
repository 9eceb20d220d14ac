"""The fold of events into windows, as machine code: a block of users is decoded, folded into, and encoded.

What a fold does is said by `Window` (models/windows/window.py) and, event by event in plain Python, by
models/windows/reference.py; a test holds the two together.
"""

from models.arrays import Ints
from models.compiled import compiled
from models.windows.buffer import Buffer, buffer_of, find_places
from models.windows.decode import (
    BLOCK_USERS,
    Batch,
    Records,
    Room,
    Rules,
    decode,
    new_id_bytes,
    room_for,
)
from models.windows.encode import encode
from models.windows.layout import EVENT_BYTES
from models.windows.window import MAX_EDGE_HASHES


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
    room = room_for(old_starts, batch)
    # Not 0 by itself: that is of a type of its own, for which all of `encode` would be compiled once more.
    end, users = new_starts[0], len(old_starts) - 1
    for first in range(0, users, BLOCK_USERS):
        last = min(first + BLOCK_USERS, users)
        damaged = decode(old, old_starts, batch, rules, room, first, last)
        if damaged >= 0:
            return damaged
        _fold(old, old_starts, batch, rules, room, counts, first, last)
        end = encode(old, old_starts, batch, rules, room, counts, new, new_starts, first, last, end)
    new_starts[users] = end
    return -1


@compiled
def _fold(
    old: Buffer,
    old_starts: Ints,
    batch: Batch,
    rules: Rules,
    room: Room,
    counts: Records,
    first: int,
    last: int,
) -> None:
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
            elif _is_late(times_ms, head, tail, time_ms, max_events, horizon_ms) or (
                window.may_outgrow
                and not _has_room(old, old_starts, batch, rules, room, user, first, head, tail, event)
            ):
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
                if window.may_outgrow:
                    fitting = _oldest_fitting(
                        old, old_starts, batch, rules, room, user, first, head, tail, rules.max_bytes
                    )
                    kept = max(kept, fitting)
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
def _has_room(
    old: Buffer,
    old_starts: Ints,
    batch: Batch,
    rules: Rules,
    room: Room,
    user: int,
    first: int,
    head: int,
    tail: int,
    event: int,
) -> bool:
    """Return whether a new event fits into the window together with all that are newer."""
    own, newer = EVENT_BYTES + new_id_bytes(batch, event), tail
    while newer > head and room.times_ms[newer - 1] > batch.times_ms[event]:
        newer -= 1
    fitting = _oldest_fitting(
        old, old_starts, batch, rules, room, user, first, newer, tail, rules.max_bytes - own
    )
    return bool(own <= rules.max_bytes and fitting == newer)


@compiled
def _oldest_fitting(
    old: Buffer,
    old_starts: Ints,
    batch: Batch,
    rules: Rules,
    room: Room,
    user: int,
    first: int,
    head: int,
    tail: int,
    max_bytes: int,
) -> int:
    """Return the first event, `head` or later, that fits into so many bytes together with all behind it."""
    n = room.windows[user - first].old_events
    places = find_places(old.headers, old_starts[user], old_starts[user + 1] - old_starts[user])
    items, categories = places.item_lengths // 2, places.category_lengths // 2
    while tail > head:
        source = room.sources[tail - 1]
        if source < n:
            max_bytes -= int(old.uint16s[items + source]) + int(old.uint16s[categories + source])
        else:
            max_bytes -= new_id_bytes(batch, source - n)
        max_bytes -= EVENT_BYTES
        if max_bytes < 0:
            break
        tail -= 1
    return tail


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
