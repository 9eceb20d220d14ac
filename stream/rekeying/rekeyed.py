"""Records of any topic as events of the behaviour topic: plain JSON, keyed by user id, each with an id."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from models.events import BEHAVIOURS, MAX_AHEAD_MS, SKIPPED_EVENT, Event
from models.windows.window import MAX_ID_BYTES
from stream.events.decoder import Decoder
from stream.events.incoming import Record, Rejected, complaint, user_to_forget

_encode = msgspec.json.Encoder().encode


class KeyedEvent(NamedTuple):
    """A record of the topic to be; time_ms is the event's, 0 where it has none."""

    key: bytes
    value: bytes | None
    time_ms: int
    headers: Sequence[tuple[str, bytes]]


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
    keyed: list[KeyedEvent] = []
    rejected: list[Rejected] = []
    skipped = 0
    events = decoder.events([record.value() for record in records])
    for record, event in zip(records, events, strict=True):
        if event is SKIPPED_EVENT:
            skipped += 1
        elif event is not None and (_is_plain(event, latest_ms) or not _complaint(event, latest_ms)):
            plain = _with_id(event, source, record.offset())
            headers = record.headers() or []
            keyed.append(KeyedEvent(str(event.user_id).encode(), _encode(plain), event.time, headers))
        elif user_id := user_to_forget(record):
            keyed.append(KeyedEvent(user_id.encode(), None, 0, record.headers() or []))
        else:
            rejected.append(Rejected(record, _complaint(event, latest_ms)))
    return Rekeyed(keyed, rejected, skipped)


def _is_plain(event: Event, latest_ms: int) -> bool:
    """Return whether an event surely makes sense, as nearly all do, in a fifth of `complaint`'s time."""
    user_id, item_id, category = event.user_id, event.item_id, event.item_category
    return (
        type(user_id) is type(item_id) is type(category) is str
        and user_id.isascii()
        and item_id.isascii()
        and category.isascii()
        and 0 < len(user_id) <= MAX_ID_BYTES
        and 0 < len(item_id) <= MAX_ID_BYTES
        and len(category) <= MAX_ID_BYTES
        and event.behavior_type in BEHAVIOURS
        and 0 < event.time <= latest_ms
        and (type(event.event_id) is str and event.event_id.isascii())
        and event.user_geohash is None
    )


def _complaint(event: Event | None, latest_ms: int) -> str:
    """Return what is wrong with an event whatever its key is."""
    key = b"" if event is None else str(event.user_id).encode(errors="replace")
    return complaint(event, key, latest_ms)


def _with_id(event: Event, source: str, offset: int) -> Event:
    """Return a sound event as the default format has it, with its place for an id where it has none."""
    event_id = f"{source}/{offset}" if event.event_id is None else str(event.event_id)
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
