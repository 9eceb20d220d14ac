"""What rankers get of a window: its newest events, whatever they are, read by any model as the window is."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.ids.vocabulary import Vocabulary
from models.windows.histories import histories_of_windows
from models.windows.recent import (
    RecentEvent,
    event_count,
    recent_events,
    recent_item_ids,
    recent_of_window,
    window_of_recent,
)
from models.windows.window import Window, WindowError, window_to_bytes

IDS = st.one_of(st.sampled_from(["i1", "i2", "i3"]), st.text(min_size=1, max_size=300))
EVENTS = st.lists(st.tuples(IDS, st.text(max_size=3), st.integers(1, 4), st.integers(0, 1 << 45)), max_size=9)
VOCABULARY = Vocabulary(["i1", "i2", "i3"], [2, 3, 2], ["c0", "c1"])


def window_of(events: list[tuple[str, str, int, int]], hashes: int = 2) -> bytes:
    events = sorted(events, key=lambda event: event[3])
    return window_to_bytes(
        Window(
            *("topic", 3, 17, len(events), 1, 2),
            [time_ms for *_, time_ms in events],
            [behaviour for _, _, behaviour, _ in events],
            [item_id for item_id, *_ in events],
            [category for _, category, *_ in events],
            [7] * len(events),
            [9] * hashes,
        )
    )


@given(EVENTS, st.integers(0, 10))
def test_newest_events_are_the_windows_whatever_they_are(
    events: list[tuple[str, str, int, int]], wanted: int
) -> None:
    recent = recent_of_window(window_of(events), wanted)
    ordered = sorted(events, key=lambda event: event[3])
    expected = [RecentEvent(*event) for event in ordered[max(len(ordered) - wanted, 0) :]] if wanted else []
    assert recent_events(recent) == expected
    assert event_count(recent) == len(expected)
    assert recent_item_ids(recent) == tuple(event.item_id for event in expected)


@given(st.lists(EVENTS, min_size=1, max_size=4))
def test_a_model_reads_them_as_it_reads_the_windows(users: list[list[tuple[str, str, int, int]]]) -> None:
    windows = [window_of(events) for events in users]
    of_windows = histories_of_windows(windows, VOCABULARY)
    of_recent = histories_of_windows(
        [window_of_recent(recent_of_window(w, 100)) for w in windows], VOCABULARY
    )
    for name in ("item", "category", "behaviour", "time_ms", "starts"):
        np.testing.assert_array_equal(getattr(of_recent, name), getattr(of_windows, name))


def test_an_event_of_numeric_ids_takes_seven_bytes_beside_them() -> None:
    events = [(f"{232431562 + i}", "4245", 1, 1_418_860_801_000 + i * 60_000) for i in range(50)]
    assert len(recent_of_window(window_of(events), 50)) == 20 + 50 * (4 + 1 + 1 + 1 + 9 + 4)


@pytest.mark.parametrize("cut", [1, 10, 19, 25, 33, 34])
def test_damaged_bytes_are_refused(cut: int) -> None:
    recent = recent_of_window(window_of([("i1", "c0", 1, 5), ("i2", "c1", 2, 6)]), 5)
    assert cut < len(recent)
    for damaged in (recent[:cut], recent + b"x"):
        for read in (recent_events, event_count, recent_item_ids, window_of_recent):
            with pytest.raises(WindowError, match=r"damaged: it is cut off or too long"):
                read(damaged)
    with pytest.raises(WindowError, match="has format 07, this version reads 01"):
        recent_events(b"\x07" + recent[1:])
    with pytest.raises(WindowError, match="another version"):
        recent_of_window(b"\x01nonsense", 5)


def test_json_list_of_an_earlier_worker_has_items_and_no_events() -> None:
    assert recent_item_ids(b'["i1","i\\"2"]') == ("i1", 'i"2')
    assert len(histories_of_windows([window_of_recent(b'["i1"]')], VOCABULARY).item) == 0
