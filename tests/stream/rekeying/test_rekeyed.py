"""What records become when they are keyed by user id."""

import json
from collections.abc import Callable, Iterator, Sequence
from tempfile import NamedTemporaryFile
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as with_settings
from hypothesis import strategies as st

from models.events import SKIPPED_EVENT, Event
from models.log.format import read_log_format
from replay.encoding import AVRO, PROTOBUF, encoder
from stream.events.columns import DecodedEvents, Decoder, WholeEvents
from stream.events.decoder import make_decoder
from stream.events.format_decoder import FormatDecoder
from stream.events.framed_decoder import FramedDecoder
from stream.events.function_decoder import FunctionDecoder
from stream.events.incoming import FORGET_HEADER, read_records
from stream.kafka.records import records_of
from stream.registry.schemas import RegisteredSchema
from stream.rekeying.rekeyed import PIECE, Rekeyed, rekeyed

SENSIBLE_MS = 1_400_000_000_000
VALUES: st.SearchStrategy[Any] = st.one_of(
    st.text(max_size=3),
    st.integers(-5, 2**40),
    st.sampled_from([None, "", 0, 1.5, [], {}, "x" * 70_000, "商", 2**63, True]),
)
TIMES = st.sampled_from([SENSIBLE_MS, SENSIBLE_MS, 0, -1, 2**60, SENSIBLE_MS // 1000, 1.4e12])
#: Events, most of which make sense; in some batches all are alike, so that they are read together.
EVENTS = st.fixed_dictionaries(
    {},
    optional={
        "user_id": VALUES,
        "item_id": VALUES,
        "behavior_type": st.integers(0, 5) | VALUES,
        "time": TIMES,
        "item_category": VALUES,
        "event_id": VALUES,
        "user_geohash": VALUES,
    },
)
#: What one field of an event is in a whole batch, and in single ones of it.
KINDS: dict[str, st.SearchStrategy[Any]] = {
    "plain": st.text("abc/-", min_size=1, max_size=9),
    "awkward": st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=9),
    "number": st.integers(0, 2**62),
    "null": st.none(),
}

SHOP = """
user = "{shop}:{payload.user}"
item = "payload.item"
category = ["payload.section", { constant = "none" }]
geohash = "payload.place"
behaviour = "action"
time = "payload.at"
event_id = "id"
[behaviours]
look = "view"
take = "buy"
scroll = "skip"
"""
PLAIN = """
encoding = "{encoding}"
user = "user_id"
item = "item_id"
category = "item_category"
geohash = "user_geohash"
behaviour = "behavior_type"
time = "time"
event_id = "event_id"
[behaviours]
1 = "view"
4 = "buy"
2 = "skip"
"""


@pytest.fixture(scope="module", autouse=True)
def few_are_many() -> Iterator[None]:
    """Have few records read together, as many are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stream.rekeying.rekeyed.MANY", 0)
        yield


class Record:
    """A record of a topic that is keyed by anything."""

    def __init__(
        self, value: bytes | None, offset: int, key: bytes | None = b"k", headers: Any = None
    ) -> None:
        self._parts = value, offset, key, headers

    def value(self) -> bytes | None:
        return self._parts[0]

    def offset(self) -> int:
        return self._parts[1]

    def key(self) -> bytes | None:
        return self._parts[2]

    def headers(self) -> Any:
        return self._parts[3]

    def timestamp(self) -> tuple[int, int]:
        return 1, 0


class OneByOne:
    """A decoder that says what each event is, and never of many together."""

    def __init__(self, decoder: Decoder) -> None:
        self.events = decoder.events

    def columns(self, values: Sequence[bytes | None]) -> DecodedEvents | None:
        return None

    def whole(self, values: Sequence[bytes | None]) -> WholeEvents | None:
        return None


class Counting:
    """A decoder that counts what it was asked for one by one."""

    def __init__(self, decoder: Decoder) -> None:
        self.columns, self.whole, self._events, self.alone = decoder.columns, decoder.whole, decoder.events, 0

    def events(self, values: Sequence[bytes | None]) -> list[Event | None]:
        self.alone += len(values)
        return self._events(values)


class Schemas:
    """A registry of one schema."""

    def __init__(self, kind: str, text: str) -> None:
        self._schema = RegisteredSchema(kind, text)

    def schema(self, schema_id: int) -> RegisteredSchema | None:
        return self._schema if schema_id == 1 else None


def by_format(text: str) -> FormatDecoder:
    with NamedTemporaryFile("w", suffix=".toml") as file:
        file.write(text)
        file.flush()
        log_format = read_log_format(file.name, "--format")
    if log_format.encoding == "json":
        return FormatDecoder(log_format)
    schemas = Schemas("AVRO", AVRO) if log_format.encoding == "avro" else Schemas("PROTOBUF", PROTOBUF)
    return FramedDecoder(log_format, schemas)


def sent(values: Sequence[bytes | None], decoder: Decoder) -> tuple[list[Any], list[Any], int]:
    """Return what is sent in its order, with the offset of its record; the dead letters; what was skipped."""
    records = [Record(value, 7 * offset) for offset, value in enumerate(values)]
    found = rekeyed(records_of(records), decoder, "Top-ic_1/0")
    letters = [(each.record.offset(), each.reason) for each in found.rejected]
    return events_of(found), letters, found.skipped


def events_of(found: Rekeyed) -> list[tuple[bytes | None, bytes | None, int, int]]:
    """Return key, value, time and place of what is sent."""
    events = found.events
    rows = [*zip(events.keys, events.values, events.times_ms.tolist(), events.places.tolist(), strict=True)]
    return [rows[at] for at in events.order.tolist()]


@given(st.lists(EVENTS, min_size=1))
def test_what_is_sent_is_what_a_worker_reads_as_the_source_means_it(values: list[dict[str, Any]]) -> None:
    records = [Record(json.dumps(value).encode(), offset) for offset, value in enumerate(values)]
    decoder = make_decoder("", "")
    found = rekeyed(records_of(records), decoder, "t/0")
    events = events_of(found)
    assert (len(events) + len(found.rejected), found.skipped) == (len(values), 0)
    assert "key" not in {each.reason for each in found.rejected}
    wrong = {each.record.offset() for each in found.rejected}
    sound = [offset for offset in range(len(values)) if offset not in wrong]
    for (key, value, time_ms, place), offset in zip(events, sound, strict=True):
        before, after = decoder.events([records[offset].value(), value])
        assert before and after
        assert (key, time_ms, place) == (str(before.user_id).encode(), before.time, offset)
        for name in ("user_id", "item_id", "behavior_type", "time", "category"):
            assert str(getattr(before, name)) == str(getattr(after, name))
        assert after.event_id == (f"t/0/{offset}" if before.event_id is None else str(before.event_id))
    if events:
        again = [Record(value, n, key) for n, (key, value, *_) in enumerate(events)]
        read = read_records(again, decoder, "u/0")
        assert (len(read.events), read.rejected) == (len(events), [])


@given(st.lists(EVENTS | st.none(), max_size=50), st.sampled_from(["", "time=at,user_geohash=place"]))
def test_any_events_become_what_each_becomes_by_itself(
    events: list[dict[str, Any] | None], mapping: str
) -> None:
    values = [None if each is None else json.dumps(each).encode() for each in events]
    decoder = make_decoder(mapping, "")
    assert sent(values, decoder) == sent(values, OneByOne(decoder))


@st.composite
def alike(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Draw events that are alike, but for at most a few."""
    kinds = {
        name: draw(st.sampled_from(["plain", "awkward", "number", "null", "missing"]))
        for name in ("user_id", "item_id", "item_category", "event_id", "user_geohash")
    }
    events = []
    for _ in range(draw(st.integers(33, 60))):
        event = {"behavior_type": draw(st.integers(1, 4)), "time": SENSIBLE_MS + draw(st.integers(0, 10**9))}
        event |= {name: draw(KINDS[kind]) for name, kind in kinds.items() if kind in KINDS}
        events.append(event)
    for place, other in draw(st.lists(st.tuples(st.integers(0, 32), EVENTS), max_size=3)):
        events[place] = other
    return events


@with_settings(max_examples=60)
@given(alike(), st.booleans())
def test_events_that_are_alike_become_what_each_becomes_by_itself(
    events: list[dict[str, Any]], is_ascii: bool
) -> None:
    values = [json.dumps(each, ensure_ascii=is_ascii).encode(errors="replace") for each in events]
    decoder = make_decoder("", "")
    assert sent(values, decoder) == sent(values, OneByOne(decoder))


def click(number: int, **fields: Any) -> dict[str, Any]:
    payload = {
        "user": number % 7,
        "item": f"i{number}",
        "section": None,
        "place": 'a"\\\n',
        "at": 1_417_000_000,
    }
    return {"shop": "é\u2028", "action": "look", "payload": payload | fields, "id": f"e{number}"}


ODD: list[dict[str, Any]] = [
    click(1, place=None),
    click(2, at=1_417_000_000.25),
    click(3, at="2014-12-01T10:00:00Z"),
    click(4, user=1.5),
    click(5, item="x" * 70_000),
    click(6) | {"action": "scroll"},
    click(7) | {"action": "rate"},
    click(8) | {"id": None},
    click(9) | {"id": 12},
    click(10) | {"payload": 5},
    click(11, section="\udc00"),
    click(12, user=""),
]

PLAIN_EVENT = {"user_id": "u", "item_id": "i", "behavior_type": 1, "time": SENSIBLE_MS, "event_id": "e"}


@pytest.mark.parametrize("odd", range(len(ODD) + 1))
def test_events_by_a_format_become_what_each_becomes_by_itself(odd: int) -> None:
    values = [json.dumps(click(number)).encode() for number in range(100)]
    for place, event in [*zip((3, 50, 99), ODD[odd : odd + 1] * 3, strict=False)]:
        values[place] = json.dumps(event).encode()
    decoder = by_format(SHOP)
    assert sent(values, decoder) == sent(values, OneByOne(decoder))


@pytest.mark.parametrize("encoding", ["avro", "protobuf"])
def test_events_of_a_registry_become_what_each_becomes_by_itself(encoding: str) -> None:
    plain = {"item_category": "", "user_geohash": None, "time": SENSIBLE_MS}
    events = [
        plain | {"event_id": f"e{number}" * (number % 3), "user_id": f'"{number % 7}\n商', "item_id": "i"}
        for number in range(100)
    ]
    for number, event in enumerate(events):
        event["behavior_type"] = 1 + number % 4
        event["user_geohash"] = "9q" if number % 5 == 0 else None
    values: list[bytes | None] = [*encoder(encoding, 1)([json.dumps(each).encode() for each in events])]
    decoder = by_format(PLAIN.format(encoding=encoding))
    assert sent(values, decoder) == sent(values, OneByOne(decoder))
    assert sent(values, decoder)[2] == 25
    values[7], values[40], values[80] = b"no frame", None, b"\0\0\0\0\x02other schema"
    assert sent(values, decoder) == sent(values, OneByOne(decoder))
    assert dict(sent(values, decoder)[1])[7 * 80] == "schema"


@pytest.mark.parametrize(
    ("decoder", "event", "most"), [(make_decoder("", ""), PLAIN_EVENT, 1), (by_format(SHOP), click(1), PIECE)]
)
def test_only_what_is_near_an_odd_one_is_read_one_by_one(decoder: Decoder, event: Any, most: int) -> None:
    values = [json.dumps(event).encode()] * 5_000
    values[1_234] = b"no json"
    counting = Counting(decoder)
    events, letters, _ = sent(values, counting)
    assert len(events) == 4_999 and letters == [(7 * 1_234, "unreadable")]
    assert counting.alone <= most


@pytest.mark.parametrize(
    ("decoder", "make"),
    [
        (
            make_decoder("", ""),
            lambda n: {"user_id": n, "item_id": 5, "behavior_type": 1, "time": SENSIBLE_MS},
        ),
        (by_format(SHOP), click),
    ],
)
def test_usual_events_are_never_read_one_by_one(decoder: Decoder, make: Callable[[int], Any]) -> None:
    counting = Counting(decoder)
    assert len(sent([json.dumps(make(number)).encode() for number in range(500)], counting)[0]) == 500
    assert counting.alone == 0


def test_times_in_seconds_are_dead_letters_as_a_worker_says() -> None:
    event = {"user_id": "u", "item_id": "i", "behavior_type": 1, "time": SENSIBLE_MS // 1000, "event_id": "e"}
    for decoder in (make_decoder("", ""), OneByOne(make_decoder("", ""))):
        assert sent([json.dumps(event).encode()], decoder) == ([], [(0, "seconds")], 0)


def test_what_is_no_event_is_passed_on_or_left_out() -> None:
    headers = [("sent_at", b"5")]
    found = {b"skip": SKIPPED_EVENT, b"\xff": Event("\udcff", "i", 1, 7), b"": None}
    decoder = FunctionDecoder(lambda value: found.get(value, Event(5, "i", 1, 7)))  # type: ignore[return-value, arg-type]
    records = [
        Record(b"skip", 0),
        Record(None, 1, b"u", [(FORGET_HEADER, b"1")]),
        Record(b"\xff", 2),
        Record(b"good", 3, headers=headers),
        Record(None, 4),
    ]
    became = rekeyed(records_of(records), decoder, "t/0")
    assert became.skipped == 1
    assert [(each.reason, each.record.offset()) for each in became.rejected] == [
        ("unreadable", 2),
        ("unreadable", 4),
    ]
    events = events_of(became)
    assert events[0] == (b"u", None, 0, 1)
    assert (events[1][0], events[1][3]) == (b"5", 3)
    assert np.array_equal(became.events.places[became.events.order], [1, 3])


ORDERS = SHOP.replace('"payload.item"', '"payload.items.sku"') + '3 = "buy"\n'


def order(number: int, *skus: object, **fields: Any) -> bytes:
    event = click(number) | fields
    event["payload"] = event["payload"] | {"items": [{"sku": sku} for sku in skus]}
    return json.dumps(event).encode()


@pytest.mark.parametrize("decoder", [by_format(ORDERS), OneByOne(by_format(ORDERS))])
def test_each_element_of_a_list_is_an_event_with_an_id_of_its_own(decoder: Decoder) -> None:
    values = [
        order(1, "a", "b", "b", action="take"),
        order(2, action="take"),
        order(3, "c", None, "", "d", action="take", id=None),
        order(4, "e", action="scroll"),
        b"no json",
        json.dumps(click(5)).encode(),
    ]
    headers = [("sent_at", b"5")]
    records = [Record(value, 7 * number, headers=headers) for number, value in enumerate(values)]
    found = rekeyed(records_of(records), decoder, "t/0", ("payload", "items"))
    sent_events = [(json.loads(value or b""), place) for _, value, _, place in events_of(found)]
    own_id = json.loads(values[0])["id"]
    assert [(each["item_id"], each["event_id"], place) for each, place in sent_events] == [
        ("a", own_id, 0),
        ("b", f"{own_id}-1", 0),
        ("b", f"{own_id}-2", 0),
        ("c", "t/0/14", 2),
        ("d", "t/0/14-3", 2),
    ]
    assert found.skipped == 2, "what is to be skipped, and an order of nothing"
    letters = [(each.record.offset(), each.reason, each.record.value()) for each in found.rejected]
    assert letters == [(14, "no_item", values[2]), (28, "unreadable", values[4]), (35, "no_item", values[5])]
