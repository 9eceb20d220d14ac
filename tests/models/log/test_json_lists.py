"""An object that tells of several events becomes as many objects."""

import json
from typing import Any

import pytest

from models.log.json_lists import part_numbers, unfolded

ORDER: dict[str, Any] = {"user": "u", "cart": {"items": [{"sku": "a"}, {"sku": "b", "n": 2}], "total": 1.5}}


def parts(*values: Any, path: tuple[str, ...] = ("cart", "items")) -> tuple[list[Any], list[int], list[int]]:
    given = [value if isinstance(value, bytes | None) else json.dumps(value).encode() for value in values]
    found, places = unfolded(given, path)
    return [each and json.loads(each) for each in found], places.tolist(), part_numbers(places).tolist()


def test_each_element_stands_where_the_list_was() -> None:
    found, places, numbers = parts(ORDER, ORDER)
    first, second = ({"user": "u", "cart": {"items": item, "total": 1.5}} for item in ORDER["cart"]["items"])
    assert found == [first, second, first, second]
    assert (places, numbers) == ([0, 0, 1, 1], [0, 1, 0, 1])


def test_elements_may_be_anything_and_the_list_at_the_top() -> None:
    found, places, _ = parts({"items": ["a", 5, None, [1]]}, path=("items",))
    assert found == [{"items": "a"}, {"items": 5}, {"items": None}, {"items": [1]}]
    assert places == [0] * 4


@pytest.mark.parametrize(
    "value", [{"user": "u"}, {"cart": 5}, {"cart": {"items": {"sku": "a"}}}, {"cart": {"items": None}}, None]
)
def test_what_has_no_list_there_stays_as_it_is(value: Any) -> None:
    assert parts(value, ORDER)[0][0] == value
    assert parts(value, ORDER)[1:] == ([0, 1, 1], [0, 0, 1])


def test_what_is_no_object_stays_and_an_empty_list_makes_none() -> None:
    values, places = unfolded([b"[1]", b"{", b'{"cart": {"items": []}}', b"1" * 5_000], ("cart", "items"))
    assert (values, places.tolist()) == ([b"[1]", b"{", b"1" * 5_000], [0, 1, 3])
    assert unfolded([], ("a",))[0] == []


def test_a_value_that_would_fill_the_memory_stays_as_it_is() -> None:
    value = json.dumps({"note": "x" * 500_000, "items": [1] * 100_000}).encode()
    assert unfolded([value], ("items",))[0] == [value]
