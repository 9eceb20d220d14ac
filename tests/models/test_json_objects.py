"""Objects from columns are byte for byte what msgspec writes of each by itself."""

from typing import Any

import msgspec
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.ids.texts import texts_of
from models.json_objects import BARE, NULL, QUOTED, json_objects

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=9) | st.text(
    '\0\x1f\x7f\b\t"\\/é', max_size=9
)
VALUES: st.SearchStrategy[Any] = TEXTS | st.integers(-(2**63), 2**63 - 1) | st.none()


@given(
    st.lists(st.tuples(VALUES, VALUES), min_size=1),
    st.tuples(TEXTS, TEXTS).filter(lambda names: names[0] != names[1]),
)
def test_objects_are_what_msgspec_writes(rows: list[tuple[Any, Any]], names: tuple[str, str]) -> None:
    fields = {}
    for name, column in zip(names, zip(*rows, strict=True), strict=True):
        how = [NULL if each is None else BARE if isinstance(each, int) else QUOTED for each in column]
        fields[name] = texts_of([str(each) for each in column]), np.array(how, np.uint8)
    written = [msgspec.json.encode(dict(zip(names, row, strict=True))) for row in rows]
    assert [*json_objects(fields)] == written


def test_every_character_below_a_hundred_is_written_as_msgspec_does() -> None:
    texts = [f"a{chr(code)}b" for code in range(100)]
    found = json_objects({"x": (texts_of(texts), np.full(100, QUOTED, np.uint8))})
    assert [*found] == [msgspec.json.encode({"x": text}) for text in texts]
