import threading
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from replay.control import PausingClock
from replay.lateness import Lateness
from replay.pacing import MAX_SLEEP_S, MAX_SLICE_RECORDS, SLICE_S, ahead, paced_slices


class Time:
    """A clock that only `sleep` moves, and that oversleeps as real ones do."""

    def __init__(self, oversleep_s: float = 0.0) -> None:
        self.now_s = 0.0
        self.oversleep_s = oversleep_s
        self.slept_s: list[float] = []

    def clock(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        self.now_s += seconds + self.oversleep_s


@given(gaps_s=st.lists(st.floats(0, 30), min_size=1, max_size=100), oversleep_s=st.sampled_from([0.0, 0.003]))
def test_every_record_is_sent_once_in_order_when_due(gaps_s: list[float], oversleep_s: float) -> None:
    due_s, time = np.cumsum(gaps_s), Time(oversleep_s)
    next_record = 0
    for records in paced_slices(due_s, time.clock, time.sleep):
        assert records.start == next_record
        late_s = time.now_s - due_s[records]
        assert (late_s >= -1e-9).all()
        assert (late_s <= SLICE_S + oversleep_s + 1e-9).all()
        next_record = records.stop
    assert next_record == len(due_s)


def test_at_a_high_rate_it_sleeps_per_slice_not_per_event() -> None:
    due_s, time = np.arange(100_000) / 100_000, Time()
    slices = list(paced_slices(due_s, time.clock, time.sleep))
    assert len(time.slept_s) <= 1 / SLICE_S + 1
    assert max(rows.stop - rows.start for rows in slices) <= 100_000 * SLICE_S + 1


def test_a_long_silence_is_slept_through_in_short_sleeps() -> None:
    time = Time()
    slices = list(paced_slices(np.array([0.0, 10.0]), time.clock, time.sleep))
    assert max(time.slept_s) == MAX_SLEEP_S
    assert [rows for rows in slices if rows.stop > rows.start] == [slice(0, 1), slice(1, 2)]


def test_what_is_due_at_once_is_not_slept_for_and_slices_stay_small() -> None:
    time = Time()
    slices = list(paced_slices(np.zeros(2 * MAX_SLICE_RECORDS + 500), time.clock, time.sleep))
    assert time.slept_s == []
    assert [rows.stop - rows.start for rows in slices] == [MAX_SLICE_RECORDS, MAX_SLICE_RECORDS, 500]


def test_items_are_made_a_few_ahead_and_no_more() -> None:
    made: list[int] = []
    caught_up = threading.Event()

    def numbers() -> Iterator[int]:
        for number in range(10):
            made.append(number)
            if number == 3:
                caught_up.set()
            yield number

    items = ahead(numbers())
    assert [next(items), next(items)] == [0, 1]
    assert caught_up.wait(60)
    assert made == [0, 1, 2, 3]
    assert list(items) == list(range(2, 10))


def test_what_goes_wrong_ahead_is_raised() -> None:
    def wrong() -> Iterator[int]:
        yield 1
        raise ValueError("away")

    with pytest.raises(ValueError, match="away"):
        list(ahead(wrong()))


def test_a_clock_leaves_out_its_pauses_and_begins_where_it_is_told() -> None:
    time = Time()
    clock = PausingClock(time.clock)
    clock.begin(at_s=100.0)
    time.sleep(1)
    clock.pause()
    time.sleep(5)
    assert clock() == 101
    clock.resume()
    time.sleep(2)
    assert (clock(), clock.paused_s) == (103, 5)


@given(late_s=st.lists(st.floats(-1, 1e4), min_size=1, max_size=200), share=st.sampled_from([0.5, 0.99, 1.0]))
def test_quantiles_of_lateness_are_exact_to_five_percent(late_s: list[float], share: float) -> None:
    found, half = Lateness(), len(late_s) // 2
    found.add(np.array(late_s[:half]))
    found.add(np.array(late_s[half:]))
    exact = max(np.quantile(late_s, share, method="inverted_cdf"), 1e-5)
    assert exact * 0.999 <= max(found.quantile_s(share), 1e-5) <= exact * 1.051
