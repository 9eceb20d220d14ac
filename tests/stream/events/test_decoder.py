"""Choosing a decoder, and refusing what names none."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import SettingsError
from models.events import Event
from models.ids.texts import Texts
from stream.events.decoder import (
    DecodedEvents,
    Decoder,
    columns_of_events,
    decoder_of,
    decoder_of_parts,
    each_path_of,
    make_decoder,
)
from stream.settings import Settings

GOOD = b'{"user_id": "u", "item_id": "5", "behavior_type": 1, "time": 7}'
NUMBERS = b'{"user_id": 3, "item_id": 5, "behavior_type": 4, "time": 7, "item_category": "c", "event_id": 9}'
OTHER = '{"user_id": "ü", "item_id": "商", "behavior_type": 2, "time": 8, "event_id": "e\\u00e9"}'.encode()
FEW = (GOOD, NUMBERS, OTHER)


def read(decoder: Decoder, values: list[bytes | None]) -> DecodedEvents:
    """Return the columns of values that are all readable, whichever way they are read."""
    events = decoder.events(values)
    assert None not in events
    return columns_of_events([event for event in events if event])


def event_ids(columns: DecodedEvents) -> list[str | None]:
    found = columns.event_ids
    return [*found.to_list()] if isinstance(found, Texts) else found


def same(one: DecodedEvents, other: DecodedEvents) -> bool:
    return (
        all(
            np.array_equal(getattr(one, name), getattr(other, name))
            for name in ("user_ids", "user", "behaviour", "time_ms")
        )
        and event_ids(one) == event_ids(other)
        and all(
            np.array_equal(getattr(one, name).text, getattr(other, name).text)
            and np.array_equal(getattr(one, name).starts, getattr(other, name).starts)
            for name in ("users", "item", "category")
        )
    )


def decode_anything(value: bytes) -> Any:
    """Be a decoder of a user's."""
    return {b"event": Event("u", "i", 1, 7), b"half": Event("u", "i", 1, None)}[value]  # type: ignore[arg-type]


def test_decoder_is_found_by_name_and_whatever_it_does_is_no_crash() -> None:
    decoder = make_decoder("", f"{__name__}:decode_anything")
    assert decoder.columns([b"event"]) is None
    assert decoder.events([b"event", b"unknown", b"half", None]) == [Event("u", "i", 1, 7), None, None, None]


@pytest.mark.parametrize("values", [[GOOD] * 3, [OTHER, GOOD, OTHER], [NUMBERS] * 2])
def test_columns_are_what_the_events_are_one_by_one(values: list[bytes | None]) -> None:
    decoder = make_decoder("", "")
    columns = decoder.columns(values)
    assert columns is not None
    assert same(columns, read(decoder, values))


@given(
    st.lists(
        st.sampled_from([*FEW, *(each[:-1] for each in FEW), b"", b"{}", b"5", b"}", b"{", b"NaN", None])
    )
)
def test_columns_are_right_or_not_there(values: list[bytes | None]) -> None:
    decoder = make_decoder("", "")
    columns = decoder.columns(values)
    assert columns is None or same(columns, read(decoder, values))


@pytest.mark.parametrize(
    "values",
    [
        [GOOD[:-1] + b', "x": [{}', b"{}]}", GOOD + b"," + GOOD],
        [GOOD[:-1] + b', "x": "}', b'{"}', GOOD + GOOD],
        [GOOD, GOOD + b"\n" + GOOD],
        [GOOD, GOOD[:-1] + b', "x": NaN}'],
        [GOOD, GOOD[:-1] + b', "x": [1, -Infinity]}'],
        [GOOD, GOOD.replace(b'"u"', b'"\xff"')],
        [GOOD, GOOD.replace(b'"u"', b'"\\ud800"')],
        [GOOD, GOOD.replace(b'"u"', b"null")],
        [GOOD, GOOD.replace(b"7", b"7.5")],
        [GOOD, GOOD.replace(b"7", b'"7"')],
        [GOOD, GOOD.replace(b"7", b"123456789012345678901234567890")],
        [GOOD, NUMBERS],
    ],
)
def test_values_that_must_be_read_one_by_one_have_no_columns(values: list[bytes | None]) -> None:
    assert make_decoder("", "").columns(values) is None


@pytest.mark.parametrize(
    ("fields", "name", "said"),
    [
        ("uid=user_id", "", "'uid'; an event has user_id"),
        ("nonsense", "", "write pairs such as"),
        ("", "no_such_module:f", "no_such_module"),
        ("", "json:no_such_function", "no_such_function"),
        ("", "json", "write module:function"),
        ("user_id=uid", "json:loads", "exclude each other"),
    ],
)
def test_nonsense_is_refused(fields: str, name: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        make_decoder(fields, name)


def test_no_category_is_the_empty_text_whichever_way_an_event_is_read() -> None:
    values: list[bytes | None] = [GOOD.replace(b"{", b'{"item_category": null, ') for _ in range(2)]
    decoder = make_decoder("", "")
    columns = decoder.columns(values)
    assert columns is not None
    assert columns.category.lengths().tolist() == [0, 0]
    assert same(columns, read(decoder, values))
    assert [event and event.category for event in decoder.events([*values, GOOD, NUMBERS])] == [
        "",
        "",
        "",
        "c",
    ]


def test_a_format_that_takes_records_apart_is_for_rekeying_alone(tmp_path: Path) -> None:
    (tmp_path / "orders.toml").write_text('each = "items"\n')
    told = Settings(event_format=str(tmp_path / "orders.toml"))
    assert each_path_of(decoder_of_parts(told)) == ("items",)
    assert each_path_of(decoder_of(Settings())) == ()
    with pytest.raises(
        SettingsError, match=r"orders\.toml has each, and a record .* `python -m stream\.rekey"
    ):
        decoder_of(told)
