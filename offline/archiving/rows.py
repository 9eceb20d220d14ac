"""Records of the behaviour topic -> rows of the archive, by the worker's own rules of what can be read."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa

from models.events import CANARY_PREFIX, MAX_AHEAD_MS, SKIPPED_EVENT, Event
from stream.events.decoder import Decoder
from stream.events.incoming import Record, complaint, item_to_forget, user_to_forget

#: Tianchi's columns, with what tells a redelivery, and where the event stood on the topic.
SCHEMA = pa.schema(
    [
        ("event_id", pa.string()),
        ("user_id", pa.string()),
        ("item_id", pa.string()),
        ("behavior_type", pa.int8()),
        ("user_geohash", pa.string()),
        ("item_category", pa.string()),
        ("time", pa.timestamp("ms", "UTC")),
        ("partition", pa.int32()),
        ("offset", pa.int64()),
    ]
)


class PlacedRecord(Record, Protocol):
    """What is needed of a Kafka record (confluent_kafka.Message)."""

    def partition(self) -> int: ...


@dataclass(frozen=True, slots=True)
class RecordRows:
    """What some records bring; rows: an Arrow record batch of `SCHEMA`."""

    rows: Any
    #: Records that are left out, by the reason with which a worker sends them to the dead letters; those that
    #: the format says to skip as "skipped".
    rejected: Counter[str] = field(default_factory=Counter)
    #: Requests to forget a user or an item.
    forgets: int = 0


def rows_of_records(records: Sequence[PlacedRecord], decoder: Decoder) -> RecordRows:
    """Return the rows of records, in their order, and count what is no event."""
    latest_ms = int(time.time() * 1000) + MAX_AHEAD_MS
    rejected: Counter[str] = Counter()
    forgets, rows = 0, []
    events = decoder.events([record.value() for record in records])
    for record, event in zip(records, events, strict=True):
        reason = complaint(event, record.key(), latest_ms) or _why_left_out(event)
        if event is SKIPPED_EVENT:
            rejected["skipped"] += 1
        elif event is not None and not reason:
            rows.append((*_fields(event), record.partition(), record.offset()))
        elif user_to_forget(record) or item_to_forget(record):
            forgets += 1
        else:
            rejected[reason] += 1
    columns = list(zip(*rows, strict=True)) or [()] * len(SCHEMA)
    arrays = [pa.array(column, kind) for column, kind in zip(columns, SCHEMA.types, strict=True)]
    return RecordRows(pa.record_batch(arrays, schema=SCHEMA), rejected, forgets)


def _why_left_out(event: Event | None) -> str:
    """Return why a readable event is in no archive, empty where it is: nobody is to learn from the canary."""
    return "canary" if event and str(event.user_id).startswith(CANARY_PREFIX) else ""


def _fields(event: Event) -> tuple[str | None, str, str, int, str | None, str, int]:
    """Return an event's columns; where the producer sends no id or no place, there is none."""
    return (
        None if event.event_id is None else str(event.event_id),
        str(event.user_id),
        str(event.item_id),
        event.behavior_type,
        None if event.user_geohash is None else _text(event.user_geohash),
        event.category,
        event.time,
    )


def _text(value: object) -> str:
    """Return anything as text that UTF-8 can write: nobody has checked a geohash."""
    return str(value).encode(errors="replace").decode()
