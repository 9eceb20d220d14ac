"""Looking up ids: as a dict would."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.ids.id_table import make_id_table
from models.ids.texts import texts_of

ids = st.lists(st.text(max_size=20), max_size=60)


@given(ids.map(lambda values: list(dict.fromkeys(values))), ids)
def test_table_finds_what_a_dict_finds(known: list[str], wanted: list[str]) -> None:
    expected = {each: place for place, each in enumerate(known)}
    found = make_id_table(known).find(texts_of([*known, *wanted]))
    assert found.tolist() == [expected.get(each, -1) for each in [*known, *wanted]]


def test_id_listed_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="'b' is listed twice"):
        make_id_table(["a", "b", "b"])
