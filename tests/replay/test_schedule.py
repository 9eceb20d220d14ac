import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import SettingsError
from replay.schedule import MAX_SLEEP_S, MAX_SLICE_ROWS, SLICE_S, due_times_s, paced_slices, parse_speed

HOUR_MS = 3_600_000


class Time:
    """A clock that only `sleep` moves, and that oversleeps as real ones do."""

    def __init__(self, oversleep_s: float = 0.0) -> None:
        self.now_s = 1_000.0
        self.oversleep_s = oversleep_s
        self.slept_s: list[float] = []

    def clock(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        self.now_s += seconds + self.oversleep_s


def test_rows_of_an_hour_are_spread_evenly_over_it() -> None:
    time_ms = np.array([5, 5, 5, 5, 6, 6, 9]) * HOUR_MS
    assert (due_times_s(time_ms, HOUR_MS) / 3600).tolist() == [0, 0.25, 0.5, 0.75, 1, 1.5, 4]


def test_rows_of_a_second_are_spread_over_it_and_no_further() -> None:
    time_ms = np.array([7_000, 7_000, 8_000, 60_000])
    assert due_times_s(time_ms, 1_000).tolist() == [0, 0.5, 1, 53]


@given(hours=st.lists(st.integers(0, 50), min_size=1, max_size=200))
def test_due_times_ascend_and_stay_within_their_hour(hours: list[int]) -> None:
    time_ms = np.array(sorted(hours), dtype=np.int64) * HOUR_MS
    due_s = due_times_s(time_ms, HOUR_MS)
    assert due_s[0] == 0
    assert (np.diff(due_s) > 0).all()
    assert (np.floor(due_s / 3600 + 1e-9) == (time_ms - time_ms[0]) // HOUR_MS).all()


@given(
    gaps_s=st.lists(st.floats(0, 30), min_size=1, max_size=100),
    speed=st.sampled_from([0.5, 1.0, 100.0, 1e6]),
    oversleep_s=st.sampled_from([0.0, 0.003]),
)
def test_every_row_is_sent_once_in_order_when_due(
    gaps_s: list[float], speed: float, oversleep_s: float
) -> None:
    due_s, time = np.cumsum(gaps_s), Time(oversleep_s)
    next_row = 0
    for rows in paced_slices(due_s, speed, time.clock, time.sleep):
        assert rows.start == next_row
        late_s = time.now_s - 1_000 - due_s[rows] / speed
        assert (late_s >= -1e-9).all()
        assert (late_s <= SLICE_S + oversleep_s + 1e-9).all()
        next_row = rows.stop
    assert next_row == len(due_s)


def test_the_pace_at_100x_is_within_one_percent() -> None:
    due_s, time = np.arange(0, 36_000, 0.02), Time(oversleep_s=0.001)
    for _ in paced_slices(due_s, 100.0, time.clock, time.sleep):
        pass
    assert time.now_s - 1_000 == pytest.approx(360, rel=0.01)


def test_at_a_high_rate_it_sleeps_per_slice_not_per_event() -> None:
    due_s, time = np.arange(100_000) / 100_000, Time()
    slices = list(paced_slices(due_s, 1.0, time.clock, time.sleep))
    assert len(time.slept_s) <= 1 / SLICE_S + 1
    assert max(rows.stop - rows.start for rows in slices) == 100_000 * SLICE_S


def test_a_long_silence_is_slept_through_in_short_sleeps() -> None:
    time = Time()
    slices = list(paced_slices(np.array([0.0, 10.0]), 1.0, time.clock, time.sleep))
    assert max(time.slept_s) == MAX_SLEEP_S
    assert [rows for rows in slices if rows.stop > rows.start] == [slice(0, 1), slice(1, 2)]


def test_at_maximum_speed_nothing_sleeps_and_slices_stay_small() -> None:
    time = Time()
    slices = list(paced_slices(np.arange(0, 9e6, 3_600.0), math.inf, time.clock, time.sleep))
    assert time.slept_s == []
    assert [rows.stop - rows.start for rows in slices] == [MAX_SLICE_ROWS, MAX_SLICE_ROWS, 500]


SPEEDS = [("100x", 100.0), ("0.5x", 0.5), ("1000", 1000.0), ("max", math.inf)]


@pytest.mark.parametrize(("text", "speed"), SPEEDS)
def test_speeds_are_read(text: str, speed: float) -> None:
    assert parse_speed(text) == speed


@pytest.mark.parametrize("text", ["", "x", "0x", "-1x", "fast", "nan", "inf", "1xx"])
def test_a_speed_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="--speed is"):
        parse_speed(text)
