"""Events -> windows, a whole batch at once and outside the interpreter lock: the hot loop of a worker.

What a fold does is said by `Window` (models/windows/window.py) and, event by event in plain Python, by
models/windows/reference.py; a test holds the two together. Compiled by Numba on first use, then kept on disk.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from numba import njit

from models.ids.texts import Texts, texts_of
from models.windows.window import (
    HEADER,
    MAX_EDGE_HASHES,
    WINDOW_FORMAT,
    WindowError,
    WindowSettings,
    read_header,
)

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]

#: Bytes that an event takes beside its ids: time, hash, two lengths, behaviour.
EVENT_BYTES = 21

HEADER_BYTES = HEADER.size


@dataclass(frozen=True, slots=True)
class EventColumns:
    """E readable events of U users, in the order of their offsets.

    user (E,) number of the event's user; offset, time_ms (E,) int64; behaviour (E,) uint8; event_hash (E,)
    int64, the 64 bits of the hash; item, category: E texts each.
    """

    user: npt.NDArray[np.int64]
    offset: Ints
    time_ms: Ints
    behaviour: Bytes
    event_hash: Ints
    item: Texts
    category: Texts

    def __len__(self) -> int:
        return len(self.user)


@dataclass(frozen=True, slots=True)
class Folded:
    """What became of U users: their new values, None where nothing changed, and per user (U,) int64 counts.

    newest_ms is the time of the newest event of each window, 0 where it is empty.
    """

    values: list[bytes | None]
    applied: Ints
    duplicate: Ints
    late: Ints
    redelivered: Ints
    newest_ms: Ints


def fold_events(
    values: Sequence[bytes | None],
    events: EventColumns,
    topic_id: str,
    partition: int,
    settings: WindowSettings,
) -> Folded:
    """Fold events into the windows of U users, `values[u]` being that of user u, None for none yet.

    Events of a partition must come in the order of their offsets; a redelivery of any of them is harmless.
    Raises WindowError where a value is not a window of this format.
    """
    old = _joined(values)
    starts = np.zeros(len(values) + 1, np.int64)
    np.cumsum([len(value) if value else 0 for value in values], out=starts[1:])
    # Numbers of two bytes are sorted by their digits, in a fifth of the time.
    order = np.argsort(events.user.astype(np.min_scalar_type(len(values))), kind="stable")
    event_starts = np.zeros(len(values) + 1, np.int64)
    np.cumsum(np.bincount(events.user, minlength=len(values)), out=event_starts[1:])
    topic = np.frombuffer(topic_id.encode(), np.uint8)
    new_bytes = len(values) * (HEADER_BYTES + len(topic) + 8)
    new_bytes += len(events) * (EVENT_BYTES + 8) + len(events.item.text) + len(events.category.text)
    out = np.empty((len(old) + new_bytes) // 8 + 1, np.int64)
    out_starts = np.zeros(len(values) + 1, np.int64)
    counts = np.zeros((5, len(values)), np.int64)
    damaged = _fold_users(
        (old.view(np.int64), old, starts),
        (order, event_starts, events.offset, events.time_ms, events.behaviour, events.event_hash),
        (events.item.text, events.item.starts, events.category.text, events.category.starts),
        (topic, partition, min(settings.max_events, 2**31), settings.horizon_ms),
        (out, out.view(np.uint8), out_starts, counts),
    )
    if damaged >= 0:
        read_header(values[damaged] or b"")  # says what is wrong with it
        raise WindowError("a stored window is damaged")
    ends = out_starts.tolist()
    content = out[: ends[-1] // 8].tobytes()
    new = [content[start:end] or None for start, end in pairwise(ends)]
    return Folded(new, *counts)


def compile_fold() -> None:
    """Compile the fold, or load what was compiled before: seconds that no event should wait for."""
    none, nothing = np.zeros(0, np.int64), texts_of([])
    nobody = EventColumns(none, none, none, np.zeros(0, np.uint8), none, nothing, nothing)
    fold_events([], nobody, "", 0, WindowSettings())


def _joined(values: Sequence[bytes | None]) -> Bytes:
    return np.frombuffer(b"".join([value for value in values if value]), np.uint8)


@njit(cache=True, nogil=True)
def _fold_users(old, events, texts, settings, out):  # type: ignore[no-untyped-def]
    """Fold each user's events; return the first user whose value is damaged, -1 where none is.

    Everything is compared as int64, hashes too: only their equality counts.
    """
    old64, old8, starts = old
    old32, old16 = old8.view(np.int32), old8.view(np.uint16)
    order, event_starts, offsets, event_times, event_behaviours, event_hashes = events
    item_text, item_starts, category_text, category_starts = texts
    topic, partition, max_events, horizon_ms = settings
    out64, out8, out_starts, counts = out
    out32, out16 = out8.view(np.int32), out8.view(np.uint16)
    users = len(starts) - 1
    room = _largest(old32, starts, event_starts)
    times, hashes = np.empty(room, np.int64), np.empty(room, np.int64)
    sources = np.empty(room, np.int64)  # below n: a place in the old window, else n + a place in the batch
    edges = np.empty(2 * MAX_EDGE_HASHES + room, np.int64)
    item_places, category_places = np.empty(room + 1, np.int64), np.empty(room + 1, np.int64)
    end = 0
    for user in range(users):
        # What is there: n events, m edge hashes, and what was counted.
        out_starts[user] = end
        start, size = starts[user], starts[user + 1] - starts[user]
        place = start // 8
        n, m, item_bytes, topic_bytes, known_offset = 0, 0, 0, 0, -1
        applied, duplicate, late = 0, 0, 0
        if size:
            if size < HEADER_BYTES or old8[start] != WINDOW_FORMAT:
                return user
            topic_bytes, m, n = int(old8[start + 1]), int(old16[start // 2 + 1]), int(old32[start // 4 + 1])
            item_bytes = int(old32[start // 4 + 3])
            topic_place = start + HEADER_BYTES + EVENT_BYTES * n + 8 * m + item_bytes + old32[start // 4 + 4]
            if size != (topic_place + topic_bytes - start + 7) // 8 * 8:
                return user
            is_same_source = old32[start // 4 + 2] == partition and topic_bytes == len(topic)
            for i in range(topic_bytes if is_same_source else 0):
                is_same_source = is_same_source and old8[topic_place + i] == topic[i]
            known_offset = old64[place + 3] if is_same_source else -1
            applied, duplicate, late = old64[place + 4], old64[place + 5], old64[place + 6]
        old_times = place + 7
        for i in range(n):
            times[i], hashes[i], sources[i] = old64[old_times + i], old64[old_times + n + i], i
        for i in range(m):
            edges[i] = old64[old_times + 2 * n + i]
        old_lengths = (old_times + 2 * n + m) * 4

        # The fold itself; the window is times[head:tail].
        head, tail, last_offset, is_changed = 0, n, known_offset, False
        before = (applied, duplicate, late)
        for ordinal in range(event_starts[user], event_starts[user + 1]):
            event = order[ordinal]
            if offsets[event] <= known_offset:
                counts[3, user] += 1
                continue
            last_offset, is_changed = offsets[event], True
            time_ms = event_times[event]
            if _holds(hashes, head, tail, event_hashes[event]) or _holds(edges, 0, m, event_hashes[event]):
                duplicate += 1
            elif _is_late(times, head, tail, time_ms, max_events, horizon_ms):
                late += 1
            else:
                applied += 1
                at = tail
                while at > head and times[at - 1] > time_ms:
                    times[at], hashes[at], sources[at] = times[at - 1], hashes[at - 1], sources[at - 1]
                    at -= 1
                times[at], hashes[at], sources[at] = time_ms, event_hashes[event], n + event
                tail += 1
                head, m = _drop_oldest(times, hashes, head, tail, edges, m, max_events, horizon_ms)
        counts[4, user] = times[tail - 1] if tail > head else 0
        if not is_changed:
            continue
        counts[0, user] = applied - before[0]
        counts[1, user] = duplicate - before[1]
        counts[2, user] = late - before[2]

        # What will be there.
        old_behaviours = (old_lengths + 2 * n) * 2
        item_places[0], category_places[0] = old_behaviours + n, old_behaviours + n + item_bytes
        for i in range(n):
            item_places[i + 1] = item_places[i] + old16[old_lengths + i]
            category_places[i + 1] = category_places[i] + old16[old_lengths + n + i]
        count = tail - head
        times_at = end // 8 + 7
        lengths_at = (times_at + 2 * count + m) * 4
        behaviours_at = (lengths_at + 2 * count) * 2
        for i in range(count):
            source = sources[head + i]
            out64[times_at + i], out64[times_at + count + i] = times[head + i], hashes[head + i]
            out8[behaviours_at + i] = (
                old8[old_behaviours + source] if source < n else event_behaviours[source - n]
            )
        for i in range(m):
            out64[times_at + 2 * count + i] = edges[i]
        kept = sources[head:tail]
        items_at = behaviours_at + count
        categories_at = _copy_ids(
            kept, n, old8, item_places, item_text, item_starts, out8, items_at, out16[lengths_at:]
        )
        topic_at = _copy_ids(
            *(kept, n, old8, category_places, category_text, category_starts),
            *(out8, categories_at, out16[lengths_at + count :]),
        )
        _copy(topic, 0, len(topic), out8, topic_at)
        out8[end], out8[end + 1], out16[end // 2 + 1] = WINDOW_FORMAT, len(topic), m
        out32[end // 4 + 1], out32[end // 4 + 2] = count, partition
        out32[end // 4 + 3], out32[end // 4 + 4] = categories_at - items_at, topic_at - categories_at
        out32[end // 4 + 5] = 0
        out64[end // 8 + 3], out64[end // 8 + 4] = last_offset, applied
        out64[end // 8 + 5], out64[end // 8 + 6] = duplicate, late
        end = topic_at + len(topic)
        while end % 8:
            out8[end] = 0
            end += 1
    out_starts[users] = end
    return -1


@njit(cache=True, nogil=True)
def _largest(old32, starts, event_starts):  # type: ignore[no-untyped-def]
    """Return the most events that a window holds together with its new ones."""
    most = 0
    for user in range(len(starts) - 1):
        held = old32[starts[user] // 4 + 1] if starts[user + 1] > starts[user] else 0
        most = max(most, held + event_starts[user + 1] - event_starts[user])
    return most


@njit(cache=True, nogil=True)
def _holds(hashes, start, end, wanted):  # type: ignore[no-untyped-def]
    found = 0
    for each in hashes[start:end]:  # to the end always: so the compiler can compare several at once
        found += each == wanted
    return found > 0


@njit(cache=True, nogil=True)
def _is_late(times, head, tail, time_ms, max_events, horizon_ms):  # type: ignore[no-untyped-def]
    if head == tail:
        return False
    is_full = tail - head >= max_events
    return time_ms < times[tail - 1] - horizon_ms or (is_full and time_ms < times[head])


@njit(cache=True, nogil=True)
def _drop_oldest(times, hashes, head, tail, edges, m, max_events, horizon_ms):  # type: ignore[no-untyped-def]
    """Return the window's new head and number of edge hashes: what is too much or too old is dropped.

    The hashes of what was as old as the oldest kept are remembered.
    """
    kept = max(head, tail - max_events)
    while times[kept] < times[tail - 1] - horizon_ms:
        kept += 1
    if kept == head:
        return head, m
    if times[head] < times[kept]:
        m = 0
    first = kept
    while first > head and times[first - 1] == times[kept]:
        first -= 1
    for i in range(first, kept):
        edges[m] = hashes[i]
        m += 1
    surplus = m - MAX_EDGE_HASHES
    if surplus > 0:
        m = MAX_EDGE_HASHES
        for i in range(m):
            edges[i] = edges[surplus + i]
    return kept, m


@njit(cache=True, nogil=True)
def _copy_ids(sources, n, old8, old_places, text, starts, out8, write, lengths):  # type: ignore[no-untyped-def]
    """Write the ids of these sources one behind the other, and their lengths; return where they end."""
    i = 0
    while i < len(sources):
        source = sources[i]
        if source >= n:
            first, last = starts[source - n], starts[source - n + 1]
            lengths[i] = last - first
            write = _copy(text, first, last, out8, write)
            i += 1
            continue
        first = source  # old events mostly stand as they stood: they are copied in runs
        while i < len(sources) and sources[i] == source and source < n:
            lengths[i] = old_places[source + 1] - old_places[source]
            i += 1
            source += 1
        write = _copy(old8, old_places[first], old_places[source], out8, write)
    return write


@njit(cache=True, nogil=True)
def _copy(text, first, last, out8, write):  # type: ignore[no-untyped-def]
    source, target = text[first:last], out8[write : write + last - first]
    for place in range(len(source)):
        target[place] = source[place]
    return write + last - first
