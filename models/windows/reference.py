"""Folding event by event in plain Python, as whoever writes a Faust agent or a Quix application would.

The benchmark's peers run it, and the tests hold Twintide's compiled fold (models/windows/fold.py) against it.
"""

from bisect import bisect_left, bisect_right
from itertools import accumulate
from typing import Literal

import msgspec

from models.windows.layout import EVENT_BYTES
from models.windows.window import MAX_EDGE_HASHES, Window, WindowSettings

#: What became of one event. "redelivered" has changed nothing.
Outcome = Literal["applied", "duplicate", "late", "redelivered"]


class IncomingEvent(msgspec.Struct, frozen=True, gc=False):
    """A readable event on its way into its user's window."""

    offset: int
    time_ms: int
    behaviour: int
    item_id: str
    category: str
    event_hash: int


def fold(
    window: Window,
    event: IncomingEvent,
    topic_id: str,
    partition: int,
    settings: WindowSettings,
    max_bytes: int | None = None,
) -> Outcome:
    """Fold one event into the window, in place, and return what became of it.

    `max_bytes` is what the window's events may take, ids included; None: as much as they like. Events of a
    partition must come in the order of their offsets; a redelivery of any of them is harmless.
    """
    is_same_source = (window.topic_id, window.partition) == (topic_id, partition)
    if is_same_source and event.offset <= window.offset:
        return "redelivered"
    window.topic_id, window.partition, window.offset = topic_id, partition, event.offset
    times_ms = window.times_ms
    if event.event_hash in window.event_hashes or event.event_hash in window.edge_hashes:
        window.duplicate += 1
        return "duplicate"
    is_full = len(times_ms) >= settings.max_events
    if times_ms and (
        event.time_ms < times_ms[-1] - settings.horizon_ms or (is_full and event.time_ms < times_ms[0])
    ):
        window.late += 1
        return "late"
    place = bisect_right(times_ms, event.time_ms)
    if (
        max_bytes is not None
        and _most_bytes(window) + 4 * len(event.item_id + event.category) > max_bytes  # spares a look at each
        and sum(_sizes(window)[place:]) + _size(event.item_id, event.category) > max_bytes
    ):
        window.late += 1
        return "late"
    times_ms.insert(place, event.time_ms)
    window.behaviours.insert(place, event.behaviour)
    window.item_ids.insert(place, event.item_id)
    window.categories.insert(place, event.category)
    window.event_hashes.insert(place, event.event_hash)
    window.applied += 1
    _drop_oldest(window, settings, max_bytes)
    return "applied"


def _size(item_id: str, category: str) -> int:
    return EVENT_BYTES + len(item_id.encode()) + len(category.encode())


def _sizes(window: Window) -> list[int]:
    return [_size(*ids) for ids in zip(window.item_ids, window.categories, strict=True)]


def _most_bytes(window: Window) -> int:
    """Return what the events, and one of empty ids more, take at most: a character has up to four bytes."""
    characters = sum(map(len, window.item_ids)) + sum(map(len, window.categories))
    return (len(window) + 1) * EVENT_BYTES + 4 * characters


def _drop_oldest(window: Window, settings: WindowSettings, max_bytes: int | None) -> None:
    times_ms = window.times_ms
    surplus = len(times_ms) - settings.max_events
    horizon_ms = times_ms[-1] - settings.horizon_ms
    if times_ms[0] < horizon_ms:
        surplus = max(surplus, bisect_left(times_ms, horizon_ms))
    if max_bytes is not None and _most_bytes(window) > max_bytes:
        surplus = max(surplus, sum(size > max_bytes for size in accumulate(reversed(_sizes(window)))))
    if surplus <= 0:
        return
    oldest_kept_ms = times_ms[surplus]
    if times_ms[0] < oldest_kept_ms:
        window.edge_hashes.clear()
    if times_ms[surplus - 1] == oldest_kept_ms:
        window.edge_hashes += window.event_hashes[bisect_left(times_ms, oldest_kept_ms) : surplus]
        del window.edge_hashes[:-MAX_EDGE_HASHES]
    for column in (times_ms, window.behaviours, window.item_ids, window.categories, window.event_hashes):
        del column[:surplus]
