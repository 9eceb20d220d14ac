"""Folded windows -> their new values; machine code, the last step of a fold."""

from typing import Any

import numpy as np
import numpy.typing as npt

from models.arrays import Bytes, Ints
from models.compiled import compiled
from models.windows.buffer import Buffer, compiled_places_of, find_places
from models.windows.decode import Batch, Records, Room, Rules
from models.windows.layout import WINDOW_FORMAT


# Longer than 60 lines: every array that a helper got would be counted as a reference, once per user.
@compiled
def encode(
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
