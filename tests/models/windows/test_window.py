"""A window's binary value: what it says, and what is refused."""

import struct
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

    return Window(
        topic_id=draw(ids),
        partition=draw(st.integers(-1, 2**31 - 1)),
        offset=draw(int64),
        applied=draw(int64),
        duplicate=draw(int64),
        late=draw(int64),
        times_ms=column(int64),
        behaviours=column(st.integers(0, 255)),
        item_ids=column(ids),
        categories=column(ids),
        event_hashes=column(hashes),
        edge_hashes=draw(st.lists(hashes, max_size=3)),
    )


def test_bytes_of_a_value_are_these() -> None:
    """What stands in tables and changelogs must stay readable: another layout needs another format number."""
    window = Window(
        *("topïc", 7, 2**40, 5, 6, 7, [-1, 1_700_000_000_000], [1, 4], ["ab", "ü"], ["", "c"]),
        *([2**64 - 1, 3], [9]),
    )
    numbers = {
        "format, topic bytes, edge hashes, events": "02 06 0100 02000000",
        "partition, item bytes, category bytes, unused": "07000000 04000000 01000000 00000000",
        "offset": "0000000000010000",
        "applied, duplicate, late": "0500000000000000 0600000000000000 0700000000000000",
        "times": "ffffffffffffffff 0068e5cf8b010000",
        "event hashes": "ffffffffffffffff 0300000000000000",
        "edge hashes": "0900000000000000",
        "item lengths": "0200 0200",
        "category lengths": "0000 0100",
        "behaviours": "01 04",
    }
    texts = "abüctopïc".encode()
    expected = bytes.fromhex(" ".join(numbers.values())) + texts
    assert window_to_bytes(window) == expected.ljust(120, b"\0")
    assert window_from_bytes(expected.ljust(120, b"\0")) == window


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


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\x01\x90",
        b"\x02",
        b"\x02garbage",
        window_to_bytes(Window(item_ids=["i"], times_ms=[1]))[:-8],
        window_to_bytes(Window("topic", 0, 7)) + bytes(8),
        # An item's length of -8 and a category's of 8: only their sum is right.
        window_to_bytes(Window())[:12] + struct.pack("<ii", -8, 8) + window_to_bytes(Window())[20:],
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
