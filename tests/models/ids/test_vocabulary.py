"""Vocabulary: raw ids of any kind to indices, unknown ones included."""

import numpy as np
import pytest

from models.ids.vocabulary import Vocabulary
from models.ids.vocabulary_file import FIRST_KNOWN, UNKNOWN

WORDS = Vocabulary(["12#3", "ünï", "007"], [3, 2, 3], ["shoes", "a b"])


def test_ids_are_opaque_strings() -> None:
    indices = WORDS.item_indices(["007", "7", "ünï", "12#3", ""])
    assert indices.tolist() == [4, UNKNOWN, 3, FIRST_KNOWN, UNKNOWN]
    assert indices.dtype == np.int64


def test_no_ids_give_no_indices() -> None:
    assert WORDS.item_indices([]).tolist() == []


def test_known_item_has_its_own_category_and_unknown_item_that_of_its_event() -> None:
    items = np.array([2, UNKNOWN, 4, UNKNOWN])
    named = np.array([UNKNOWN, 3, 2, UNKNOWN])
    assert WORDS.categories_of(items, named).tolist() == [3, 3, 3, UNKNOWN]


def test_bytes_hold_the_whole_vocabulary() -> None:
    copy = Vocabulary.from_bytes(WORDS.to_bytes())
    assert copy.item_ids == WORDS.item_ids
    assert copy.category_ids == WORDS.category_ids
    assert copy.item_categories.tolist() == WORDS.item_categories.tolist()


@pytest.mark.parametrize("value", [b"", b"\x80", b"not msgpack", WORDS.to_bytes()[:-3]])
def test_bytes_of_something_else_are_refused(value: bytes) -> None:
    with pytest.raises(ValueError, match="not a vocabulary"):
        Vocabulary.from_bytes(value)


def test_an_item_listed_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        Vocabulary(["a", "a"], [1, 1], [])
