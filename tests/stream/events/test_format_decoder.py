"""Events read by a format: what a plain reading of the JSON says, together as one by one."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import SettingsError
from models.events import SKIPPED_EVENT, Event
from models.ids.texts import Texts
from models.log.format import LogFormat, read_log_format
from stream.events.decoder import columns_of_events, make_decoder
from stream.events.format_decoder import FormatDecoder
from stream.events.incoming import FORGET_HEADER, read_records

SHOP = """
user = ["{shop}:{payload.user.id}", "device:{device}"]
item = 'payload."item.id"'
behaviour = ["action", { constant = "view" }]
category = ["payload.section", { constant = "none" }]
geohash = ""
time = "payload.at"
event_id = "id"

[behaviours]
view = "view"
buy = "buy"
7 = "cart"
true = "favourite"
scroll = "skip"
"""
FLAT = 'user = "user"\nitem = "item"\nbehaviour = ""\ncategory = ""\ngeohash = "place"\ntime = "at"\n'
FORMATS = [
    SHOP,
    *(f'{FLAT}time_unit = "{unit}"' for unit in ("auto", "seconds", "milliseconds", "microseconds", "text")),
    f"{FLAT}whole_ids = true",
    'user = "user"\nitem = "user.item"\ntime = "at"\nbehaviour = { constant = "buy" }',
]
MEANINGS = {"view": 1, "buy": 4, "7": 3, "true": 2, "scroll": 0}

IDS: st.SearchStrategy[Any] = st.one_of(
    st.text(max_size=3),
    st.integers(-(2**65), 2**65),
    st.integers(0, 99),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([None, True, 266079.0, "266079.0", "\u0000", "商", [], {}, {"item": 5}, "\ud800"]),
)
TIMES: st.SearchStrategy[Any] = st.one_of(
    st.integers(1_400_000_000, 1_500_000_000).flatmap(
        lambda s: st.sampled_from(
            [s, s * 1_000, s * 1_000_000 + 1_500, s + 0.25, str(s), f"{s}.75", float(s)]
        )
    ),
    st.datetimes(datetime(1995, 1, 1), datetime(2030, 1, 1)).flatmap(
        lambda at: st.sampled_from(
            [at.isoformat() + zone for zone in ("", "Z", "+02:00")] + [at.strftime("%Y-%m-%d %H")]
        )
    ),
    st.sampled_from([None, True, "", "yesterday", 0, -5, 2**63, 10**30, [], 1e300, " 1418860801 "]),
)


def objects(ids: st.SearchStrategy[Any], times: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    payload = st.fixed_dictionaries(
        {},
        optional={
            "user": st.one_of(st.fixed_dictionaries({}, optional={"id": ids}), ids),
            "item.id": ids,
            "section": ids,
            "at": times,
            "more": st.just([{"deep": None}]),
        },
    )
    fields = {name: ids for name in ("shop", "device", "id", "user", "item", "place")}
    actions = st.sampled_from([*MEANINGS, 7, True, "unheard of", None])
    optional = {**fields, "payload": payload, "action": actions, "at": times}
    return st.fixed_dictionaries({}, optional=optional)


#: Objects that are much alike, which are read together, or not at all.
ALIKE = st.sampled_from([st.text("ab", min_size=1, max_size=2), st.integers(0, 9)]).flatmap(
    lambda ids: st.sampled_from(
        [st.integers(1_400_000_000, 1_500_000_000), st.just("2014-11-18T09:30:00.250+01:00"), st.just(1.4e9)]
    ).flatmap(lambda times: st.lists(objects(ids, times), max_size=6))
)


def decoder_of(content: str) -> FormatDecoder:
    return FormatDecoder(format_of(content))


def format_of(content: str) -> LogFormat:
    with NamedTemporaryFile("w", suffix=".toml") as file:
        file.write(content)
        file.flush()
        return read_log_format(file.name)


DECODERS = {content: decoder_of(content) for content in FORMATS}


def encoded(values: Sequence[Any]) -> list[bytes | None]:
    return [value if isinstance(value, bytes | None) else json.dumps(value).encode() for value in values]


@pytest.mark.parametrize("content", FORMATS)
@settings(max_examples=50)
@given(
    values=st.one_of(ALIKE, st.lists(objects(IDS, TIMES) | st.sampled_from([None, b"{", b"5"]), max_size=5))
)
def test_together_events_are_what_they_are_one_by_one(content: str, values: list[Any]) -> None:
    decoder, records = decoder_of(content) if len(values) == 1 else DECODERS[content], encoded(values)
    events = decoder.events(records)
    assert events == [event for record in records for event in decoder.events_one_by_one([record])]
    columns = decoder.columns(records)
    if columns is None:
        return
    kept = [place for place, event in enumerate(events) if event is not SKIPPED_EVENT]
    assert kept == (columns.places.tolist() if columns.places is not None else [*range(len(records))])
    expected = columns_of_events([event for place in kept if (event := events[place])])
    event_ids = columns.event_ids
    assert (event_ids.to_list() if isinstance(event_ids, Texts) else event_ids) == expected.event_ids
    for name in ("user_ids", "user", "behaviour", "time_ms"):
        assert np.array_equal(getattr(columns, name), getattr(expected, name)), name
    for name in ("users", "item", "category"):
        assert np.array_equal(getattr(columns, name).text, getattr(expected, name).text), name
        assert np.array_equal(getattr(columns, name).starts, getattr(expected, name).starts), name


def plainly(value: dict[str, Any]) -> Event | None:
    """Return the event that the format SHOP means, in the plainest Python."""

    def text(*names: str) -> str:
        found: Any = value
        for name in names:
            found = found.get(name) if isinstance(found, dict) else None
        return (
            str(found).lower() if isinstance(found, bool) else str(found) if found not in (None, "") else ""
        )

    user = text("payload", "user", "id")
    behaviour = MEANINGS.get(text("action") or "view", -1)
    at = value["payload"]["at"]
    moment = datetime.fromisoformat(at).timestamp() if isinstance(at, str) else at
    if not behaviour:
        return SKIPPED_EVENT
    return Event(
        user_id=f"{text('shop')}:{user}" if text("shop") and user else f"device:{text('device')}",
        item_id=text("payload", "item.id"),
        behavior_type=behaviour,
        time=round(moment * 1000),
        item_category=text("payload", "section") or "none",
        event_id=text("id") or None,
    )


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "device": st.integers(0, 5),
                "action": st.sampled_from([*MEANINGS, 7, True, "other", "", None]),
                "payload": st.fixed_dictionaries(
                    {
                        "item.id": st.text("xyz", min_size=1),
                        "at": st.integers(10**9, 2 * 10**9) | st.just("2014-11-18T09:30:00.250+01:00"),
                    },
                    optional={
                        "user": st.sampled_from([None, {}, {"id": 5}, {"id": "u"}]),
                        "section": st.text("cd"),
                    },
                ),
            },
            optional={"shop": st.sampled_from(["s", None, 3]), "id": st.integers(0, 9) | st.text("e")},
        )
    )
)
def test_an_event_is_what_its_json_says(values: list[dict[str, Any]]) -> None:
    assert DECODERS[SHOP].events(encoded(values)) == [plainly(value) for value in values]


@pytest.mark.parametrize("at", [1_400_000_000, "2014-05-13T16:53:20Z", 1_400_000_000.25])
def test_events_that_are_alike_are_read_together(at: Any) -> None:
    values = [
        {
            "shop": "s",
            "action": ("view", "scroll", "buy")[n % 3],
            "id": n,
            "payload": {"user": {"id": n % 4}, "at": at, "item.id": str(n)},
        }
        for n in range(300)
    ]
    columns = DECODERS[SHOP].columns(encoded(values))
    assert columns is not None and columns.places is not None
    assert columns.places.tolist() == [n for n in range(300) if n % 3 != 1]
    assert columns.user_ids == ["s:0", "s:2", "s:3", "s:1"]
    assert DECODERS[SHOP].events(encoded(values)) == DECODERS[SHOP].events_one_by_one(encoded(values))


@dataclass(frozen=True)
class Record:
    """A record at an offset."""

    at: int
    content: bytes | None
    its_key: bytes | None
    its_headers: tuple[tuple[str, bytes], ...] = ()

    def key(self) -> bytes | None:
        return self.its_key

    def value(self) -> bytes | None:
        return self.content

    def offset(self) -> int:
        return self.at

    def timestamp(self) -> tuple[int, int]:
        return 1, 5

    def headers(self) -> tuple[tuple[str, bytes], ...]:
        return self.its_headers


def shop_event(user: Any, **fields: Any) -> bytes:
    payload = {"user": {"id": user}, "item.id": "i", "at": 1_400_000_000}
    return json.dumps({"shop": "s", "payload": payload, **fields}).encode()


@pytest.mark.parametrize("with_bad", [False, True])
def test_skipped_events_are_counted_and_are_no_dead_letters(with_bad: bool) -> None:
    records = [
        Record(10, shop_event(1), b"s:1"),
        Record(11, shop_event(None, action="scroll"), None),
        Record(12, shop_event(2, action="buy", id="e"), b"s:2"),
        Record(13, shop_event(2, action="scroll"), b"s:2"),
    ]
    bad = {
        "unreadable": Record(14, b"no json", b"s:1"),
        "no_user": Record(15, shop_event(None), b"s:1"),
        "behaviour": Record(16, shop_event(1, action="unheard of"), b"s:1"),
        "time": Record(17, shop_event(1).replace(b"1400000000", b'"noon"'), b"s:1"),
        "key": Record(18, shop_event(1), b"1"),
        "no_item": Record(19, shop_event(1).replace(b'"i"', b"null"), b"s:1"),
    }
    forget = Record(20, None, b"s:1", ((FORGET_HEADER, b"1"),))
    found = read_records([*records, *bad.values(), forget] if with_bad else records, DECODERS[SHOP], "t/0")
    assert [each.reason for each in found.rejected] == ([*bad] if with_bad else [])
    assert found.skipped == 2
    assert found.forgets == ({"s:1": 20} if with_bad else {})
    assert found.user_ids == (["s:2"] if with_bad else ["s:1", "s:2"])
    assert found.events.offset.tolist() == ([12] if with_bad else [10, 12])
    assert found.position == 10 + found.records == (21 if with_bad else 14)


def test_a_batch_of_nothing_but_skipped_events_has_none() -> None:
    found = read_records(
        [Record(n, shop_event(n, action="scroll"), b"") for n in range(3)], DECODERS[SHOP], "t/0"
    )
    assert (len(found.events), found.user_ids, found.skipped, found.position) == (0, [], 3, 3)


def test_settings_name_a_format_or_something_else(tmp_path: Path) -> None:
    (tmp_path / "shop.toml").write_text(FLAT)
    (event,) = make_decoder("", "", str(tmp_path / "shop.toml")).events(
        [b'{"user":1,"item":2,"at":1400000000}']
    )
    assert event == Event("1", "2", 1, 1_400_000_000_000, "", None, None)
    taobao = b'{"user_id":1,"item_id":2,"behavior_type":"fav","time":1400000000}'
    (event,) = make_decoder("", "", "taobao").events([taobao])
    assert event is not None and event.behavior_type == 2
    with pytest.raises(SettingsError, match=r"TWINTIDE_EVENT_FORMAT nowhere\.toml: no such format"):
        make_decoder("", "", "nowhere.toml")
    with pytest.raises(SettingsError, match="TWINTIDE_EVENT_FORMAT and TWINTIDE_EVENT_FIELDS exclude"):
        make_decoder("user_id=uid", "", "taobao")


def test_field_that_was_a_fraction_once_and_then_is_gone_parts_nobody() -> None:
    decoder = decoder_of(SHOP)
    one = {"shop": "s", "payload": {"user": {"id": 1}, "at": 1_400_000_000, "item.id": "i"}}
    assert decoder.columns(encoded([{**one, "device": 5.0}] * 40)) is not None
    assert decoder.columns(encoded([one] * 40)) is not None
