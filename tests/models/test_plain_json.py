"""Plain objects are read as JSON says; what is not plain is read elsewhere, never otherwise."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.plain_json import MISSING, NULL, NUMBER, OTHER, TEXT, PlainObjects, read_each_plain, read_plain

FIELDS = ("user_id", "time", "item")
NAMES = st.sampled_from([*FIELDS, "other", "user-id", "", "timE"])
TEXTS = st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters='"\\'), max_size=40)
PLAIN = st.one_of(
    TEXTS,
    st.integers(0, 10**18 - 1),
    st.none(),
    st.booleans(),
    st.floats(allow_nan=False, allow_infinity=False),
)
#: What breaks or bends JSON in the middle of it.
FRAGMENTS = st.sampled_from(
    ['"', "\\", "{", "}", "[", ":", ",", "\x00", "é", "01", "-", "1.", "e5", "nul", " ", "\t", "\x7f", ""]
)


def seen(plain: PlainObjects, row: int, field: int) -> Any:
    """Return what stands at a field, as JSON has it; ... for what is only known to be there."""
    kind = plain.kinds[row, field]
    if kind == TEXT:
        return plain.texts(field).to_list()[row]
    if kind == NUMBER:
        return int(plain.texts(field).to_list()[row])
    return {NULL: None, MISSING: "missing", OTHER: ...}[kind]


@given(st.lists(st.dictionaries(NAMES, PLAIN, min_size=1), min_size=1, max_size=5), st.booleans())
def test_plain_objects_are_read_as_json_says(objects: list[dict[str, Any]], is_spaced: bool) -> None:
    options: Any = {"indent": 1} if is_spaced else {"separators": (",", ":")}
    plain = read_plain([json.dumps(each, **options).encode() for each in objects], FIELDS)
    assert plain is not None
    for row, each in enumerate(objects):
        for place, field in enumerate(FIELDS):
            found, wanted = seen(plain, row, place), each.get(field, "missing")
            is_of_use = not isinstance(wanted, bool | float)
            assert found == (wanted if is_of_use else ...)


@given(st.dictionaries(NAMES, PLAIN, min_size=1), FRAGMENTS, st.integers(0, 200), st.integers(0, 3))
def test_what_is_read_is_json_and_means_the_same(
    each: dict[str, Any], fragment: str, place: int, left_out: int
) -> None:
    text = json.dumps(each)
    place %= len(text) + 1
    value = (text[:place] + fragment + text[place + left_out :]).encode()
    plain = read_plain([value], FIELDS)
    if plain is not None:
        wanted = json.loads(value)  # raises where it is none; msgspec has no number beyond a float's
        for number, field in enumerate(FIELDS):
            found = seen(plain, 0, number)
            assert found is ... or found == wanted.get(field, "missing")


@pytest.mark.parametrize(
    "value",
    [
        *(b"", b"{}", b"[]", b"5", b'"a"', b"{", b'{"a":1', b'{"a":1}}', b'{"a":1} {"a":1}', b'{"a":1,}'),
        *(b'{"a"}', b'{"a":}', b'{"a":01}', b'{"a":1.}', b'{"a":-}', b'{"a":1e}', b'{"a":nul}', b'{"a":tru'),
        *(
            b'{"a":{"b":1}}',
            b'{"a":[1]}',
            b'{"a":"\\n"}',
            '{"a":"é"}'.encode(),
            b'{"a":"\x01"}',
            b'{"a":NaN}',
        ),
        *(b'{"a":1,"a":2}', b"{'a':1}", b"{a:1}", b'{"a":"b', b'{"a":fals}', b'{"a":1"b":2}'),
    ],
)
def test_what_is_not_plain_is_left_to_others(value: bytes) -> None:
    assert read_plain([b'{"a":"b"}', value], ["a"]) is None


def test_numbers_are_read_up_to_what_fits() -> None:
    plain = read_plain([b'{"a":0}', b'{"a":999999999999999999}'], ["a"])
    assert plain is not None and plain.numbers(0).tolist() == [0, 10**18 - 1]
    assert plain.are(0, NUMBER)
    for many in (b'{"a":9999999999999999999}', b'{"a":-1}', b'{"a":1e3}', b'{"a":-0.5E+7}'):
        other = read_plain([many], ["a"])
        assert other is not None and other.are(0, OTHER)


@given(
    st.lists(st.dictionaries(NAMES, PLAIN | st.just("é") | st.just([]), min_size=1), min_size=1, max_size=5)
)
def test_each_plain_object_is_read_whatever_stands_beside_it(objects: list[dict[str, Any]]) -> None:
    values = [json.dumps(each, ensure_ascii=False).encode() for each in objects]
    found, are_plain = read_each_plain(values, FIELDS)
    for row, value in enumerate(values):
        alone = read_plain([value], FIELDS)
        assert are_plain[row] == (alone is not None)
        if alone:
            assert all(seen(found, row, place) == seen(alone, 0, place) for place in range(len(FIELDS)))
