"""Records of any topic as events of the behaviour topic: plain JSON, keyed by user id, each with an id."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import msgspec
import numpy as np

from models.arrays import Flags, Ints
from models.events import MAX_AHEAD_MS, SKIPPED_EVENT, Event
from models.log.json_lists import part_numbers, unfolded
from models.log.sources import KeyPath
from models.payloads import Payloads, joined_payloads, payloads_of
from stream.events.decoder import Decoder, WholeEvents
from stream.events.incoming import Rejected, are_sound, complaint, user_to_forget
from stream.kafka.records import Records
from stream.rekeying.event_json import PART, Origins, keys_of, values_of

#: Fewer records are read sooner one by one: so many come at once where little does.
MANY = 64
#: Records that are read together where all cannot be.
PIECE = 256

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class KeyedEvents:
    """N records, of which those at some places (P,) are to be sent, in that order: `order`.

    keys, values, N of each; times_ms (N,): the event's time, 0 where it has none; places (N,): which of the
    records each comes from, and has the headers of.
    """

    keys: Payloads
    values: Payloads
    times_ms: Ints
    places: Ints
    order: Ints

    def __len__(self) -> int:
        return len(self.order)


@dataclass(frozen=True, slots=True)
class Rekeyed:
    """What some records become: events, dead letters, and nothing, where they are to be skipped."""

    events: KeyedEvents
    rejected: list[Rejected]
    skipped: int


def rekeyed(records: Records, decoder: Decoder, source: str, each_path: KeyPath = ()) -> Rekeyed:
    """Return what records of a partition become; `source` names it, and stands in ids that are missing.

    Where there is `each_path`, a record is as many events as it has elements in its list there, with ids of
    their own, and one dead letter at most. Requests to forget a user are passed on as they are.
    """
    if not each_path:
        return _rekeyed(records, np.zeros(len(records), np.int64), decoder, source)
    values, places = unfolded([*records.values], each_path)
    parts = replace(records.at(places), values=payloads_of(values))
    found = _rekeyed(parts, part_numbers(places), decoder, source)
    letters = {each.record.offset(): each for each in reversed(found.rejected)}
    empty = len(records) - len(np.unique(places))
    return Rekeyed(
        replace(found.events, places=places[found.events.places]),
        [letters[offset] for offset in sorted(letters)],
        found.skipped + empty,
    )


def _rekeyed(records: Records, numbers: Ints, decoder: Decoder, source: str) -> Rekeyed:
    """Return what `rekeyed` does; numbers (R,): which part of a record each of these is, the first is 0."""
    latest_ms = int(time.time() * 1000) + MAX_AHEAD_MS
    if len(records) < MANY:
        return _one_by_one(records, numbers, np.arange(len(records)), decoder, source, latest_ms)
    parts: list[KeyedEvents] = []
    skipped, alone = 0, [np.flatnonzero(records.values.is_null)]
    for places, events in _together(records.values, np.flatnonzero(~records.values.is_null), decoder):
        if events is None:
            alone.append(places)
            continue
        if events.places is not None:
            skipped += len(places) - len(events.places)
            places = places[events.places]
        sound = np.flatnonzero(_are_sound(events, latest_ms))
        values = values_of(events, Origins(source, records.offsets[places], numbers[places]))
        parts.append(KeyedEvents(keys_of(events), values, events.time_ms, places, sound))
        alone.append(np.delete(places, sound))
    others = np.sort(np.concatenate(alone))
    rest = _one_by_one(records, numbers, others, decoder, source, latest_ms)
    return Rekeyed(_in_order([*parts, rest.events]), rest.rejected, skipped + rest.skipped)


def _together(values: Payloads, places: Ints, decoder: Decoder) -> Iterator[tuple[Ints, WholeEvents | None]]:
    """Yield stretches of some places of values with their events, None of what must be read one by one.

    One value that is not as the rest costs no more than its piece.
    """
    if not len(places):
        return
    events = decoder.whole(values if len(places) == len(values) else values.at(places))
    if events is not None or len(places) <= PIECE:
        yield places, events
        return
    for begin in range(0, len(places), PIECE):
        piece = places[begin : begin + PIECE]
        yield piece, decoder.whole(values.at(piece))


def _are_sound(events: WholeEvents, latest_ms: int) -> Flags:
    """Return which events (E,) surely make sense."""
    users, items, categories = events.texts[:3]
    found = are_sound(users, items, categories, events.behaviour, events.time_ms, latest_ms)
    return found & ~events.is_odd


class _KeyedEvent(NamedTuple):
    """What one record becomes, and which it was."""

    key: bytes
    value: bytes | None
    time_ms: int
    place: int


def _one_by_one(
    records: Records, numbers: Ints, places: Ints, decoder: Decoder, source: str, latest_ms: int
) -> Rekeyed:
    """Return what the records at some places become."""
    some = places.tolist()
    keyed: list[_KeyedEvent] = []
    rejected: list[Rejected] = []
    skipped = 0
    events = decoder.events([records.values[place] for place in some])
    for place, event in zip(some, events, strict=True):
        if event is SKIPPED_EVENT:
            skipped += 1
        elif event is not None and not _complaint(event, latest_ms):
            plain = _with_id(event, f"{source}/{records.offsets[place]}", int(numbers[place]))
            keyed.append(_KeyedEvent(str(event.user_id).encode(), _encode(plain), event.time, place))
        elif user_id := user_to_forget(records.each[place]):
            keyed.append(_KeyedEvent(user_id.encode(), None, 0, place))
        else:
            rejected.append(Rejected(records.each[place], _complaint(event, latest_ms)))
    found = KeyedEvents(
        payloads_of([each.key for each in keyed]),
        payloads_of([each.value for each in keyed]),
        np.array([each.time_ms for each in keyed], np.int64),
        np.array([each.place for each in keyed], np.int64),
        np.arange(len(keyed)),
    )
    return Rekeyed(found, rejected, skipped)


def _in_order(parts: Sequence[KeyedEvents]) -> KeyedEvents:
    """Return the events of all parts, in the order of their records."""
    begins = np.cumsum([0, *(len(part.places) for part in parts)]).tolist()
    places = np.concatenate([part.places for part in parts])
    sent = np.concatenate([part.order + begin for part, begin in zip(parts, begins, strict=False)])
    return KeyedEvents(
        joined_payloads([part.keys for part in parts]),
        joined_payloads([part.values for part in parts]),
        np.concatenate([part.times_ms for part in parts]),
        places,
        sent[np.argsort(places[sent], kind="stable")],
    )


def _complaint(event: Event | None, latest_ms: int) -> str:
    """Return what is wrong with an event whatever its key is."""
    key = b"" if event is None else str(event.user_id).encode(errors="replace")
    return complaint(event, key, latest_ms)


def _with_id(event: Event, place: str, number: int) -> Event:
    """Return a sound event as the default format has it, with its place for an id where it has none."""
    event_id = place if event.event_id is None else str(event.event_id)
    if number:
        event_id += f"{PART}{number}"
    if event.user_geohash is None and event.event_id is event_id:
        return event
    return Event(
        user_id=str(event.user_id),
        item_id=str(event.item_id),
        behavior_type=event.behavior_type,
        time=event.time,
        item_category=event.category,
        user_geohash=None if event.user_geohash is None else _text(event.user_geohash),
        event_id=event_id,
    )


def _text(value: object) -> str:
    """Return anything as text that UTF-8 can write: nobody has checked a geohash."""
    return str(value).encode(errors="replace").decode()
