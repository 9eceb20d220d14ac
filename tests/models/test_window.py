"""The window's fold against its definition, its invariants, and its binary value."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import SettingsError
from models.window import (
    MAX_EDGE_HASHES,
    Incoming,
    Window,
    WindowError,
    WindowSettings,
    fold,
    fold_all,
    is_newer,
    window_from_bytes,
    window_to_bytes,
)

SETTINGS = WindowSettings(max_events=5, horizon_ms=100)


def incoming(offset: int, time_ms: int, event_id: int | None = None) -> Incoming:
    """Return an event whose item id says its offset."""
    return Incoming(
        offset, time_ms, 1, f"item-{offset}", "category", offset if event_id is None else event_id
    )


def folded(events: list[Incoming], settings: WindowSettings = SETTINGS) -> Window:
    window = Window()
    for event in events:
        fold(window, event, "topic", 0, settings)
    return window


def by_definition(events: list[Incoming], settings: WindowSettings) -> list[str]:
    """Return the items of the last events within the horizon, each event id once."""
    first: dict[int, Incoming] = {}
    for event in events:
        first.setdefault(event.event_hash, event)
    ordered = sorted(first.values(), key=lambda event: (event.time_ms, event.offset))
    newest = ordered[-1].time_ms
    recent = [event.item_id for event in ordered if event.time_ms >= newest - settings.horizon_ms]
    return recent[-settings.max_events :]


@st.composite
def histories(draw: st.DrawFn) -> list[Incoming]:
    """Events in arrival order: times in any order and often equal; a redelivered id keeps its time."""
    times = draw(st.lists(st.integers(1, 300), min_size=1, max_size=40))
    ids = draw(st.lists(st.integers(0, 30), min_size=len(times), max_size=len(times)))
    time_of = dict(zip(reversed(ids), reversed(times), strict=True))
    return [incoming(offset, time_of[event_id], event_id) for offset, event_id in enumerate(ids)]


@given(histories())
def test_fold_equals_the_definition(events: list[Incoming]) -> None:
    assert folded(events).item_ids == by_definition(events, SETTINGS)


@given(histories(), st.integers(1, 9))
def test_folding_some_at_once_is_the_same(events: list[Incoming], size: int) -> None:
    at_once, counts = Window(), dict.fromkeys(("applied", "duplicate", "late"), 0)
    for start in range(0, len(events), size):
        for outcome, count in fold_all(at_once, events[start : start + size], "topic", 0, SETTINGS).items():
            counts[outcome] += count
    one_by_one = folded(events)
    assert at_once == one_by_one
    assert counts == {name: getattr(one_by_one, name) for name in counts}


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40).map(sorted), st.integers(1, 9))
def test_folding_some_in_time_order_at_once_is_the_same(times: list[int], size: int) -> None:
    test_folding_some_at_once_is_the_same.hypothesis.inner_test(
        [incoming(offset, 50 * time_ms) for offset, time_ms in enumerate(times)], size
    )


@given(histories())
def test_every_event_is_counted_once(events: list[Incoming]) -> None:
    window = folded(events)
    assert window.applied + window.duplicate + window.late == len(events)


@given(histories(), st.integers(0, 40))
def test_redelivery_from_any_point_changes_nothing(events: list[Incoming], start: int) -> None:
    window = folded(events)
    before = window_to_bytes(window)
    outcomes = {fold(window, event, "topic", 0, SETTINGS) for event in events[start:]}
    assert outcomes <= {"redelivered"}
    assert window_to_bytes(window) == before


@given(histories())
def test_window_is_bounded_and_in_time_order(events: list[Incoming]) -> None:
    window = folded(events)
    assert len(window) <= SETTINGS.max_events
    assert window.times_ms == sorted(window.times_ms)
    assert window.times_ms[-1] - window.times_ms[0] <= SETTINGS.horizon_ms
    columns = (window.behaviours, window.item_ids, window.categories, window.event_hashes)
    assert {len(column) for column in columns} == {len(window)}


@given(histories())
def test_binary_value_round_trips(events: list[Incoming]) -> None:
    window = folded(events)
    again = window_from_bytes(window_to_bytes(window))
    assert again == window
    assert fold(again, incoming(100, 301), "topic", 0, SETTINGS) == "applied"


def test_late_event_keeps_time_order() -> None:
    window = folded([incoming(0, 10), incoming(1, 30), incoming(2, 20)])
    assert window.item_ids == ["item-0", "item-2", "item-1"]


def test_equal_times_keep_the_order_of_arrival() -> None:
    assert folded([incoming(offset, 7) for offset in range(4)]).item_ids == [f"item-{n}" for n in range(4)]


def test_event_older_than_a_full_window_is_late() -> None:
    window = folded([incoming(offset, 50 + offset) for offset in range(5)])
    assert fold(window, incoming(5, 49), "topic", 0, SETTINGS) == "late"
    assert (window.late, window.offset) == (1, 5)


def test_event_beyond_the_horizon_is_late() -> None:
    window = folded([incoming(0, 200)])
    assert fold(window, incoming(1, 99), "topic", 0, SETTINGS) == "late"
    assert fold(window, incoming(2, 100), "topic", 0, SETTINGS) == "applied"


def test_equal_clicks_with_different_ids_are_two_events() -> None:
    assert len(folded([incoming(0, 5, event_id=1), incoming(1, 5, event_id=2)])) == 2


def test_duplicate_of_an_evicted_event_at_the_edge_is_recognised() -> None:
    # Six events of one hour in a window of five: the first has fallen out, its copy must not come back in.
    window = folded([incoming(offset, 7) for offset in range(6)])
    assert fold(window, incoming(6, 7, event_id=0), "topic", 0, SETTINGS) == "duplicate"
    assert window.item_ids == [f"item-{n}" for n in range(1, 6)]


def test_edge_hashes_stay_bounded() -> None:
    window = folded([incoming(offset, 7) for offset in range(MAX_EDGE_HASHES + 100)])
    assert len(window.edge_hashes) == MAX_EDGE_HASHES


def test_offsets_of_a_topic_made_again_are_not_taken_for_old_ones() -> None:
    window = folded([incoming(offset, 10 + offset) for offset in range(3)])
    assert fold(window, incoming(0, 20, event_id=99), "made again", 0, SETTINGS) == "applied"


def test_snapshot_does_not_change_with_later_folds() -> None:
    window = folded([incoming(0, 1)])
    snapshot = window.snapshot()
    fold(window, incoming(1, 2), "topic", 0, SETTINGS)
    assert (len(snapshot), snapshot.offset) == (1, 0)


def test_window_that_folded_more_is_newer_and_offsets_count_within_one_source() -> None:
    two, three = (window_to_bytes(folded([incoming(n, 10 + n) for n in range(count)])) for count in (2, 3))
    assert (is_newer(three, two), is_newer(two, three), is_newer(two, two)) == (True, False, True)
    made_again = Window(topic_id="made again", partition=0, offset=0)
    assert is_newer(window_to_bytes(made_again), three)


@pytest.mark.parametrize("value", [b"", b"\x02\x90", b"\x01", b"\x01\xff\xff", b"\x01garbage"])
def test_damaged_or_foreign_value_is_refused(value: bytes) -> None:
    with pytest.raises(WindowError, match=r"a stored window"):
        window_from_bytes(value)


@pytest.mark.parametrize("options", [{"max_events": 0}, {"horizon_ms": 0}])
def test_nonsense_settings_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(SettingsError, match=next(iter(options))):
        WindowSettings(**options)
