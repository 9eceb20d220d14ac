"""How what is new on a topic is taken in portions."""

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from offline.archiving.run import Stretch


@given(st.dictionaries(st.integers(0, 9), st.integers(0, 50), min_size=1), st.integers(1, 60))
def test_portions_are_the_whole_none_is_too_large_and_only_the_last_is_smaller(
    lengths: dict[int, int], events: int
) -> None:
    first: Mapping[int, int] = {partition: 100 * partition for partition in lengths}
    left = Stretch("t", first, {each: first[each] + length for each, length in lengths.items()}, lost=3)
    sizes: list[int] = []
    place = first
    while len(left):
        portion = left.portion(events)
        assert (portion.first, portion.lost) == (place, 0 if sizes else 3)
        sizes.append(len(portion))
        place, left = portion.ends, left.after(portion)
    assert place == {each: first[each] + length for each, length in lengths.items()}
    assert sum(sizes) == sum(lengths.values())
    assert all(size == events for size in sizes[:-1])
    assert all(size <= events for size in sizes)
