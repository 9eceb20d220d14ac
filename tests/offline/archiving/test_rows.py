"""What of the topic's records is a row of the archive, and what is counted instead."""

import json
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pytest

from models.events import CANARY_PREFIX
from offline.archiving.rows import SCHEMA, rows_of_records
from stream.events.decoder import make_decoder
from stream.events.incoming import FORGET_HEADER

EVENT: dict[str, Any] = {
    "event_id": "e1",
    "user_id": "ü 1",
    "item_id": 7,
    "behavior_type": 4,
    "user_geohash": "9q8",
    "item_category": "c",
    "time": 1_417_000_000_123,
}


@dataclass
class FakeRecord:
    """A record as confluent_kafka has it."""

    body: bytes | None
    name: bytes | None = "ü 1".encode()
    heads: list[tuple[str, bytes]] = field(default_factory=list)
    place: int = 42

    def key(self) -> bytes | None:
        return self.name

    def value(self) -> bytes | None:
        return self.body

    def partition(self) -> int:
        return 3

    def offset(self) -> int:
        return self.place

    def timestamp(self) -> tuple[int, int]:
        return 1, 1_417_000_000_123

    def headers(self) -> list[tuple[str, bytes]]:
        return self.heads


def record(**changes: Any) -> FakeRecord:
    return FakeRecord(json.dumps(EVENT | changes).encode())


def rows(*records: FakeRecord, fields: str = "") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = rows_of_records(records, make_decoder(fields, "")).rows.to_pylist()
    return found


def test_event_is_a_row_with_its_place_on_the_topic() -> None:
    time = datetime.fromtimestamp(1_417_000_000, UTC).replace(microsecond=123_000)
    expected = EVENT | {"item_id": "7", "time": time, "partition": 3, "offset": 42}
    assert rows(record()) == [expected]


def test_what_a_producer_leaves_out_is_null_and_no_category_is_none() -> None:
    (row,) = rows(record(event_id=None, user_geohash=None, item_category=None))
    assert (row["event_id"], row["user_geohash"], row["item_category"]) == (None, None, "")


@pytest.mark.parametrize(
    ("geohash", "text"), [(12, "12"), ({"lat": 1.5}, "{'lat': 1.5}"), ([], "[]"), ("ü", "ü")]
)
def test_geohash_of_any_kind_becomes_text(geohash: object, text: str) -> None:
    assert rows(record(user_geohash=geohash))[0]["user_geohash"] == text


def test_names_are_mapped_as_the_workers_are() -> None:
    renamed = {{"user_id": "uid", "time": "ts"}.get(name, name): value for name, value in EVENT.items()}
    found = rows(FakeRecord(json.dumps(renamed).encode()), fields="user_id=uid,time=ts")
    assert (found, len(found)) == (rows(record()), 1)


def test_what_a_worker_could_not_read_is_counted_by_reason() -> None:
    records = [
        FakeRecord(b"no json"),
        record(time=0),
        FakeRecord(None),
        record(user_id="another"),
        record(user_id="yet another"),
        FakeRecord(None, heads=[(FORGET_HEADER, b"1")]),
        record(),
    ]
    found = rows_of_records(records, make_decoder("", ""))
    assert found.rejected == Counter(unreadable=2, time=1, key=2)
    assert (found.forgets, len(found.rows)) == (1, 1)


def test_no_event_at_all_is_an_empty_batch_of_the_same_columns() -> None:
    found = rows_of_records([FakeRecord(b"")], make_decoder("", ""))
    assert (len(found.rows), found.rows.schema) == (0, SCHEMA)


def test_what_the_canary_does_is_counted_and_left_out() -> None:
    user_id = f"{CANARY_PREFIX}x-1"
    found = rows_of_records([replace(record(user_id=user_id), name=user_id.encode())], make_decoder("", ""))
    assert (len(found.rows), found.rejected) == (0, {"canary": 1})
