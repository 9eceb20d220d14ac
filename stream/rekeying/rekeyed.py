"""Records of any topic as events of the behaviour topic: plain JSON, keyed by user id, each with an id."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from models.events import MAX_AHEAD_MS, SKIPPED_EVENT, Event
from stream.events.decoder import Decoder
from stream.events.incoming import Record, Rejected, complaint, user_to_forget

_encode = msgspec.json.Encoder().encode


class KeyedEvent(NamedTuple):
    """A record of the topic to be; time_ms is the event's, 0 where it has none."""

    key: bytes
    value: bytes | None
    time_ms: int
    headers: list[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class Rekeyed:
    """What some records become: events, dead letters, and nothing, where they are to be skipped."""

    events: list[KeyedEvent]
    rejected: list[Rejected]
    skipped: int


def rekeyed(records: Sequence[Record], decoder: Decoder, source: str) -> Rekeyed:
    """Return what records of a partition become; `source` names it, and stands in ids that are missing.

    Requests to forget a user are passed on as they are.
    """
    latest_ms = int(time.time() * 1000) + MAX_AHEAD_MS
    found = Rekeyed([], [], 0)
    skipped = 0
    events = decoder.events([record.value() for record in records])
    for record, event in zip(records, events, strict=True):
        if event is SKIPPED_EVENT:
            skipped += 1
            continue
        key = b"" if event is None else str(event.user_id).encode(errors="replace")
        if reason := complaint(event, key, latest_ms):
            if user_id := user_to_forget(record):
                found.events.append(KeyedEvent(user_id.encode(), None, 0, [*(record.headers() or ())]))
            else:
                found.rejected.append(Rejected(record, reason))
        elif event is not None:
            value = _encode(_plain(event, f"{source}/{record.offset()}"))
            found.events.append(KeyedEvent(key, value, event.time, [*(record.headers() or ())]))
    return Rekeyed(found.events, found.rejected, skipped)


def _plain(event: Event, place: str) -> Event:
    """Return a sound event as the default format has it, with its place for an id where it has none."""
    return Event(
        user_id=str(event.user_id),
        item_id=str(event.item_id),
        behavior_type=event.behavior_type,
        time=event.time,
        item_category=event.category,
        user_geohash=None if event.user_geohash is None else _text(event.user_geohash),
        event_id=place if event.event_id is None else str(event.event_id),
    )


def _text(value: object) -> str:
    """Return anything as text that UTF-8 can write: nobody has checked a geohash."""
    return str(value).encode(errors="replace").decode()
