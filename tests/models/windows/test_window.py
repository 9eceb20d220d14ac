"""A window's binary value: what it says, and what is refused."""

from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import SettingsError
from models.ids.vocabulary import Vocabulary
from models.windows.columns import WindowColumns, read_windows
from models.windows.window import (
    Window,
    WindowError,
    WindowSettings,
    is_empty,
    is_newer,
    read_header,
    read_offset,
    window_from_bytes,
    window_to_bytes,
)

T = TypeVar("T")

int64, ids = st.integers(-(2**63), 2**63 - 1), st.text(max_size=20)
hashes = st.integers(0, 2**64 - 1)


@st.composite
def windows(draw: st.DrawFn) -> Window:
    """Windows of any content, sensible or not."""
    count = draw(st.integers(0, 6))

    def column(of: st.SearchStrategy[T]) -> list[T]:
        return draw(st.lists(of, min_size=count, max_size=count))

    numbers = draw(st.tuples(int64, int64, int64, int64))
    return Window(
        *(draw(ids), draw(st.integers(-1, 2**31 - 1)), *numbers),
        column(int64),
        column(st.integers(0, 255)),
        column(ids),
        column(ids),
        column(hashes),
        draw(st.lists(hashes, max_size=3)),
    )


@given(windows())
def test_binary_value_round_trips(window: Window) -> None:
    assert window_from_bytes(window_to_bytes(window)) == window


@given(windows())
def test_header_says_what_the_window_holds(window: Window) -> None:
    value = window_to_bytes(window)
    header = read_header(value)
    assert (header.topic_id, header.partition, header.offset) == (
        *(window.topic_id, window.partition),
        window.offset,
    )
    assert read_offset(value) == window.offset
    assert (header.events, header.newest_ms) == (len(window), window.times_ms[-1] if len(window) else 0)
    assert is_empty(value) == (len(window) == 0)


def test_window_that_folded_more_is_newer_and_offsets_count_within_one_source() -> None:
    two, three = (window_to_bytes(Window("topic", 0, offset)) for offset in (2, 3))
    assert (is_newer(three, two), is_newer(two, three), is_newer(two, two)) == (True, False, True)
    assert is_newer(window_to_bytes(Window("made again", 0, 0)), three)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\x01\x90",
        b"\x02",
        b"\x02garbage",
        window_to_bytes(Window(item_ids=["i"], times_ms=[1]))[:-8],
        window_to_bytes(Window("topic", 0, 7)) + bytes(8),
    ],
)
def test_damaged_or_foreign_value_is_refused(value: bytes) -> None:
    good = window_to_bytes(Window(item_ids=["i"], categories=["c"], times_ms=[1], behaviours=[1]))

    def read_between_good_ones(value: bytes) -> WindowColumns:
        return read_windows([good, value, good], Vocabulary(["i"], [2], ["c"]))

    for read in (window_from_bytes, read_header, read_between_good_ones):
        with pytest.raises(WindowError, match=r"a stored window"):
            read(value)


@pytest.mark.parametrize("options", [{"max_events": 0}, {"horizon_ms": 0}])
def test_nonsense_settings_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(SettingsError, match=next(iter(options))):
        WindowSettings(**options)
