"""The compiled fold against the plain one, against a window's definition, and its invariants."""

from collections.abc import Sequence
from random import Random

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.ids.texts import texts_of
from models.windows.decode import BLOCK_USERS
from models.windows.fold import EventColumns, Folded, fold_events
from models.windows.reference import IncomingEvent, Outcome, fold
from models.windows.window import (
    MAX_EDGE_HASHES,
    MAX_ID_BYTES,
    Window,
    WindowError,
    WindowSettings,
    window_from_bytes,
    window_to_bytes,
)

SETTINGS = WindowSettings(max_events=5, horizon_ms=100)
OUTCOMES: tuple[Outcome, ...] = ("applied", "duplicate", "late", "redelivered")


def incoming(offset: int, time_ms: int, event_id: int | None = None) -> IncomingEvent:
    """Return an event whose item id says its offset."""
    event_hash = (offset if event_id is None else event_id) + 2**63
    return IncomingEvent(offset, time_ms, 1 + offset % 4, f"item-{offset}", "c" * (offset % 3), event_hash)


def events_of(rows: Sequence[tuple[int, IncomingEvent]]) -> EventColumns:
    """Return the columns of (user number, event)."""
    events = [event for _, event in rows]
    return EventColumns(
        np.array([user for user, _ in rows], np.int64),
        np.array([event.offset for event in events], np.int64),
        np.array([event.time_ms for event in events], np.int64),
        np.array([event.behaviour for event in events], np.uint8),
        np.array([event.event_hash for event in events], np.uint64).view(np.int64),
        texts_of([event.item_id for event in events]),
        texts_of([event.category for event in events]),
    )


def fold_some(
    value: bytes | None,
    events: list[IncomingEvent],
    topic: str = "topic",
    settings: WindowSettings = SETTINGS,
) -> tuple[bytes, Folded]:
    """Return one user's value after these events, and what was said of it."""
    folded = fold_events([value], events_of([(0, event) for event in events]), topic, 0, settings)
    new = folded.values[0] or value
    assert new is not None
    return new, folded


def folded(events: list[IncomingEvent], settings: WindowSettings = SETTINGS) -> Window:
    return window_from_bytes(fold_some(None, events, settings=settings)[0])


def by_definition(events: list[IncomingEvent], settings: WindowSettings) -> list[str]:
    """Return the items of the last events within the horizon, each event id once."""
    first: dict[int, IncomingEvent] = {}
    for event in events:
        first.setdefault(event.event_hash, event)
    ordered = sorted(first.values(), key=lambda event: (event.time_ms, event.offset))
    newest = ordered[-1].time_ms
    recent = [event.item_id for event in ordered if event.time_ms >= newest - settings.horizon_ms]
    return recent[-settings.max_events :]


@st.composite
def histories(draw: st.DrawFn) -> list[IncomingEvent]:
    """Events in arrival order: times in any order and often equal; a redelivered id keeps its time."""
    times = draw(st.lists(st.integers(1, 300), min_size=1, max_size=40))
    ids = draw(st.lists(st.integers(0, 30), min_size=len(times), max_size=len(times)))
    time_of = dict(zip(reversed(ids), reversed(times), strict=True))
    return [incoming(offset, time_of[event_id], event_id) for offset, event_id in enumerate(ids)]


@st.composite
def batches(draw: st.DrawFn) -> list[tuple[str, list[tuple[int, IncomingEvent]]]]:
    """Batches of three users' events, redeliveries and topics made again among them."""
    found, offset = [], 0
    for _ in range(draw(st.integers(1, 5))):
        offset = max(0, offset - draw(st.sampled_from([0, 0, 0, 5])))
        rows = []
        for user, time_ms, event_id in draw(
            st.lists(st.tuples(st.integers(0, 2), st.integers(1, 300), st.integers(0, 40)), max_size=15)
        ):
            rows.append((user, incoming(offset, time_ms, event_id)))
            offset += 1
        found.append((draw(st.sampled_from(["topic", "topic", "made again"])), rows))
    return found


@given(batches())
def test_whole_batches_of_users_equal_the_plain_fold(
    found: list[tuple[str, list[tuple[int, IncomingEvent]]]],
) -> None:
    windows = [Window() for _ in range(3)]
    values: list[bytes | None] = [None, None, None]
    for topic, rows in found:
        result = fold_events(values, events_of(rows), topic, 0, SETTINGS)
        outcomes = [(user, fold(windows[user], event, topic, 0, SETTINGS)) for user, event in rows]
        for name in OUTCOMES:
            expected = [outcomes.count((user, name)) for user in range(3)]
            assert getattr(result, name).tolist() == expected, name
        values = [new or old for new, old in zip(result.values, values, strict=True)]
        for user, value in enumerate(values):
            assert value is None or value == window_to_bytes(windows[user])
            newest_ms = windows[user].times_ms[-1:] or [0]
            assert [result.newest_ms[user]] == newest_ms


@given(batches(), st.integers(0, 300))
def test_window_of_long_ids_keeps_the_last_events_that_fit_as_the_plain_fold_does(
    found: list[tuple[str, list[tuple[int, IncomingEvent]]]], max_bytes: int
) -> None:
    windows = [Window() for _ in range(3)]
    values: list[bytes | None] = [None, None, None]
    for topic, rows in found:
        long_rows = [
            (user, msgspec.structs.replace(each, item_id=each.item_id + "é" * (each.event_hash % 37)))
            for user, each in rows
        ]
        result = fold_events(values, events_of(long_rows), topic, 0, SETTINGS, max_bytes)
        for user, event in long_rows:
            fold(windows[user], event, topic, 0, SETTINGS, max_bytes)
        values = [new or old for new, old in zip(result.values, values, strict=True)]
        for user, value in enumerate(values):
            assert value is None or value == window_to_bytes(windows[user])
            ids = windows[user].item_ids + windows[user].categories
            assert sum(len(each.encode()) for each in ids) + 21 * len(windows[user]) <= max_bytes


def test_largest_window_fits_into_a_record_of_kafka() -> None:
    """Its ids change what it keeps, never whether Kafka takes it: librdkafka takes a million bytes."""
    events = [
        IncomingEvent(offset, 7, 1, f"{offset}".ljust(MAX_ID_BYTES, "t"), "c" * MAX_ID_BYTES, offset)
        for offset in range(2_000)
    ]
    settings, value = WindowSettings(), None
    for first in range(0, len(events), 100):
        value, _ = fold_some(value, events[first : first + 100], "t" * 249, settings)
    window = window_from_bytes(value or b"")
    assert (len(window), len(window.edge_hashes)) == (6, MAX_EDGE_HASHES)
    assert window.item_ids[-1].startswith("1999")
    assert len(value or b"") + MAX_ID_BYTES < 1_000_000 - 1_000


def test_event_older_than_what_fits_is_late_and_a_duplicate_of_what_fell_out_stays_out() -> None:
    def large(offset: int, time_ms: int, event_id: int | None = None) -> IncomingEvent:
        return msgspec.structs.replace(incoming(offset, time_ms, event_id), item_id="t" * 60_000)

    value, _ = fold_some(
        None, [large(offset, offset // 5) for offset in range(20)], settings=WindowSettings()
    )
    assert window_from_bytes(value).times_ms == [offset // 5 for offset in range(6, 20)]  # 14 fit
    again = [large(20, 0, event_id=0), large(21, 1, event_id=5), incoming(22, 0), large(23, 4)]
    value, result = fold_some(value, again, settings=WindowSettings())
    assert (result.late.tolist(), result.duplicate.tolist(), result.applied.tolist()) == ([1], [1], [2])
    assert window_from_bytes(value).times_ms == [*(offset // 5 for offset in range(7, 20)), 4]


@given(histories())
def test_fold_equals_the_definition(events: list[IncomingEvent]) -> None:
    assert folded(events).item_ids == by_definition(events, SETTINGS)


@given(histories())
def test_every_event_is_counted_once(events: list[IncomingEvent]) -> None:
    window = folded(events)
    assert window.applied + window.duplicate + window.late == len(events)


@given(histories(), st.integers(0, 39))
def test_redelivery_from_any_point_changes_nothing(events: list[IncomingEvent], start: int) -> None:
    value, _ = fold_some(None, events)
    again = fold_events([value], events_of([(0, event) for event in events[start:]]), "topic", 0, SETTINGS)
    assert again.values == [None]
    assert again.redelivered.tolist() == [len(events[start:])]


@given(histories())
def test_window_is_bounded_and_in_time_order(events: list[IncomingEvent]) -> None:
    window = folded(events)
    assert len(window) <= SETTINGS.max_events
    assert window.times_ms == sorted(window.times_ms)
    assert window.times_ms[-1] - window.times_ms[0] <= SETTINGS.horizon_ms


def test_more_users_than_a_block_are_each_folded_by_themselves() -> None:
    """The compiled fold takes users in blocks; some of these are new and some stay without events."""
    users = 2 * BLOCK_USERS + 3
    values: list[bytes | None] = [None] * users
    windows = [Window() for _ in range(users)]
    random = Random(0)
    for first in (0, 2_000):
        rows = [
            (user, incoming(first + place, 100 + place // 40, first + place if place % 5 else 7))
            for place, user in enumerate(random.choices(range(1, users), k=1_500))
            if user % 10
        ]
        result = fold_events(values, events_of(rows), "topic", 0, SETTINGS)
        for user, event in rows:
            fold(windows[user], event, "topic", 0, SETTINGS)
        values = [new or old for new, old in zip(result.values, values, strict=True)]
        changed = {user for user, _ in rows}
        assert [user for user in range(users) if result.values[user] is not None] == sorted(changed)
        for user in changed:
            assert values[user] == window_to_bytes(windows[user]), user


def test_late_event_keeps_time_order() -> None:
    window = folded([incoming(0, 10), incoming(1, 30), incoming(2, 20)])
    assert window.item_ids == ["item-0", "item-2", "item-1"]


def test_equal_times_keep_the_order_of_arrival() -> None:
    assert folded([incoming(offset, 7) for offset in range(4)]).item_ids == [f"item-{n}" for n in range(4)]


def test_event_older_than_a_full_window_is_late() -> None:
    value, _ = fold_some(None, [incoming(offset, 50 + offset) for offset in range(5)])
    value, result = fold_some(value, [incoming(5, 49)])
    assert result.late.tolist() == [1]
    assert window_from_bytes(value).offset == 5


def test_event_beyond_the_horizon_is_late() -> None:
    value, _ = fold_some(None, [incoming(0, 200)])
    value, result = fold_some(value, [incoming(1, 99), incoming(2, 100)])
    assert (result.late.tolist(), result.applied.tolist()) == ([1], [1])


def test_equal_clicks_with_different_ids_are_two_events() -> None:
    assert len(folded([incoming(0, 5, event_id=1), incoming(1, 5, event_id=2)])) == 2


def test_duplicate_of_an_evicted_event_at_the_edge_is_recognised() -> None:
    # Six events of one hour in a window of five: the first has fallen out, its copy must not come back in.
    value, _ = fold_some(None, [incoming(offset, 7) for offset in range(6)])
    value, result = fold_some(value, [incoming(6, 7, event_id=0)])
    assert result.duplicate.tolist() == [1]
    assert window_from_bytes(value).item_ids == [f"item-{n}" for n in range(1, 6)]


def test_edge_hashes_stay_bounded() -> None:
    events = [incoming(offset, 7) for offset in range(MAX_EDGE_HASHES + 100)]
    assert folded(events).edge_hashes == [event.event_hash for event in events[95:-5]]


def test_offsets_of_a_topic_made_again_are_not_taken_for_old_ones() -> None:
    value, _ = fold_some(None, [incoming(offset, 10 + offset) for offset in range(3)])
    value, result = fold_some(value, [incoming(0, 20, event_id=99)], "made again")
    assert result.applied.tolist() == [1]
    assert window_from_bytes(value).topic_id == "made again"


def test_ids_of_any_script_and_length_are_kept() -> None:
    event = IncomingEvent(0, 5, 1, "naïve-商品" * 5_000, "", 1)
    assert folded([event, incoming(1, 6)]).item_ids == [event.item_id, "item-1"]


@pytest.mark.parametrize(
    "value", [b"\x01".ljust(64), bytes([2, 0, 0, 0, 9]).ljust(64, b"\0"), bytes([2]) * 8]
)
def test_damaged_or_foreign_value_is_refused(value: bytes) -> None:
    good, _ = fold_some(None, [incoming(0, 5)])
    with pytest.raises(WindowError, match="a stored window"):
        fold_events([good, value], events_of([(1, incoming(1, 6))]), "topic", 0, SETTINGS)
