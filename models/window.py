"""The last N events of one user, and their binary value: the state that a worker keeps.

A window is a pure function of the *set* of events folded into it: it holds the last `max_events` by (event
time, arrival) that lie within `horizon_ms` of the newest, whatever order they came in. It also holds the
source offset applied last, so folding an event twice changes nothing, and how many events it ever saw, so
that what was published can be accounted for after any crash.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from models.errors import SettingsError, TwintideError

#: First byte of every value; raise it when the layout changes.
FORMAT = 1

DAY_MS = 86_400_000

#: Edge hashes kept at most: a producer's duplicates come soon, and state must stay bounded.
MAX_EDGE_HASHES = 1024

#: What became of one event. "redelivered" has changed nothing, but its user's vector may not be written yet.
Outcome = Literal["applied", "duplicate", "late", "redelivered"]


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

    def snapshot(self) -> "Window":
        """Return a copy that later folds do not change."""
        return msgspec.structs.replace(
            self,
            times_ms=self.times_ms[:],
            behaviours=self.behaviours[:],
            item_ids=self.item_ids[:],
            categories=self.categories[:],
            event_hashes=self.event_hashes[:],
            edge_hashes=self.edge_hashes[:],
        )

    def has_folded(self, topic_id: str, partition: int, offset: int) -> bool:
        """Return whether the event at this place of the source is already accounted for."""
        return offset <= self.offset and partition == self.partition and topic_id == self.topic_id


class Incoming(msgspec.Struct, frozen=True, gc=False):
    """A readable event on its way into its user's window."""

    offset: int
    time_ms: int
    behaviour: int
    item_id: str
    category: str
    event_hash: int


def fold(window: Window, event: Incoming, topic_id: str, partition: int, settings: WindowSettings) -> Outcome:
    """Fold one event into the window, in place, and return what became of it.

    Events of a partition must come in the order of their offsets; a redelivery of any of them is harmless.
    """
    if window.has_folded(topic_id, partition, event.offset):
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
    times_ms.insert(place, event.time_ms)
    window.behaviours.insert(place, event.behaviour)
    window.item_ids.insert(place, event.item_id)
    window.categories.insert(place, event.category)
    window.event_hashes.insert(place, event.event_hash)
    window.applied += 1
    _drop_oldest(window, settings)
    return "applied"


def fold_all(
    window: Window, events: Sequence[Incoming], topic_id: str, partition: int, settings: WindowSettings
) -> dict[Outcome, int]:
    """Fold some events, which stand in offset order, and return how many came to which outcome.

    The same as `fold` one by one, at a fraction of its cost where runs of events are new and in time order,
    as nearly all are.
    """
    counts: dict[Outcome, int] = {}
    start = 0
    while start < len(events):
        end = start
        if not window.has_folded(topic_id, partition, events[start].offset):
            end = _end_of_run(window, events, start)
        run = events[start:end] if start or end < len(events) else events
        if run and _are_new(window, run):
            window.topic_id, window.partition, window.offset = topic_id, partition, run[-1].offset
            _append(window, run)
            _drop_oldest(window, settings)
            counts["applied"] = counts.get("applied", 0) + len(run)
        else:
            for event in run or events[start : start + 1]:
                outcome = fold(window, event, topic_id, partition, settings)
                counts[outcome] = counts.get(outcome, 0) + 1
        start = max(end, start + 1)
    return counts


def _end_of_run(window: Window, events: Sequence[Incoming], start: int) -> int:
    """Return where the events from `start` on cease to be in time order behind the window's newest."""
    newest_ms = window.times_ms[-1] if window.times_ms else 0
    for place in range(start, len(events)):
        if events[place].time_ms < newest_ms:
            return place
        newest_ms = events[place].time_ms
    return len(events)


def _are_new(window: Window, events: Sequence[Incoming]) -> bool:
    if len(events) == 1:
        event_hash = events[0].event_hash
        return event_hash not in window.event_hashes and event_hash not in window.edge_hashes
    hashes = {event.event_hash for event in events}
    return (
        len(hashes) == len(events)
        and hashes.isdisjoint(window.event_hashes)
        and hashes.isdisjoint(window.edge_hashes)
    )


def _append(window: Window, events: Sequence[Incoming]) -> None:
    window.times_ms += [event.time_ms for event in events]
    window.behaviours += [event.behaviour for event in events]
    window.item_ids += [event.item_id for event in events]
    window.categories += [event.category for event in events]
    window.event_hashes += [event.event_hash for event in events]
    window.applied += len(events)


def _drop_oldest(window: Window, settings: WindowSettings) -> None:
    times_ms = window.times_ms
    surplus = len(times_ms) - settings.max_events
    horizon_ms = times_ms[-1] - settings.horizon_ms
    if times_ms[0] < horizon_ms:
        surplus = max(surplus, bisect_left(times_ms, horizon_ms))
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


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Window)


def window_to_bytes(window: Window) -> bytes:
    """Return the window's binary value: a format byte and a MessagePack array of its fields."""
    return bytes((FORMAT,)) + _encoder.encode(window)


def window_from_bytes(value: bytes) -> Window:
    """Return the window of a stored value; WindowError where it is not one of this format."""
    if not value or value[0] != FORMAT:
        raise WindowError(
            f"a stored window has format {value[:1].hex() or 'empty'}, this version reads {FORMAT:02x}: "
            "it was written by another version; remove the table's data and changelog, or run that version"
        )
    try:
        return _decoder.decode(memoryview(value)[1:])
    except msgspec.MsgspecError as error:
        raise WindowError(f"a stored window of {len(value)} bytes is damaged: {error}") from error


class _Source(msgspec.Struct, array_like=True, gc=False):
    """The first fields of a window, all that is needed to compare two."""

    topic_id: str
    partition: int
    offset: int


_source_decoder = msgspec.msgpack.Decoder(_Source)


def is_newer(value: bytes, known: bytes) -> bool:
    """Return whether a stored window has folded at least as much of its source as another of the same user.

    Windows of different topics cannot be compared by offset: then the one that comes later counts.
    """
    new, old = (_source_decoder.decode(memoryview(each)[1:]) for each in (value, known))
    is_same_source = (new.topic_id, new.partition) == (old.topic_id, old.partition)
    return not is_same_source or new.offset >= old.offset
