import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import SettingsError
from replay.pace import Limiter, Pace

SPEEDS = [("100x", 100.0), ("0.5x", 0.5), ("1000", 1000.0), ("max", math.inf)]


@pytest.mark.parametrize(("text", "speed"), SPEEDS)
def test_speeds_are_read(text: str, speed: float) -> None:
    assert Pace.of(text).first == Pace.of(text).last == speed


@pytest.mark.parametrize("text", ["", "x", "0x", "-1x", "fast", "nan", "inf", "1xx", "1_0x"])
def test_a_speed_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="--speed is"):
        Pace.of(text)


@pytest.mark.parametrize("text", ["", "1x:100x", "1x:max:10m", "1x:100x:10", "1x:100x:0s", "1x:100x:1m:1m"])
def test_a_ramp_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="--ramp"):
        Pace.of("100x", text)


def test_the_speed_of_a_ramp_grows_steadily_and_then_stays() -> None:
    pace = Pace.of("max", "1x:100x:10m")
    assert pace.sending_s(np.array([0.0, 50.5 * 600, 50.5 * 600 + 1_000])).tolist() == [0, 600, 610]
    seconds = np.arange(0, 600.0)
    event_s = seconds + 99 / 600 * seconds**2 / 2
    assert pace.sending_s(event_s) == pytest.approx(seconds, abs=1e-6)


RAMPS = st.builds(Pace, *[st.floats(0.1, 1e4)] * 2, st.sampled_from([0.0, 1.0, 60.0, 3_600.0]))


@given(pace=RAMPS, gaps_s=st.lists(st.floats(0, 1e5), min_size=1, max_size=50))
def test_what_happens_later_is_sent_no_earlier_at_a_speed_between_the_two(
    pace: Pace, gaps_s: list[float]
) -> None:
    event_s = np.cumsum(gaps_s)
    due_s = pace.sending_s(event_s)
    slowest, fastest = sorted((pace.first, pace.last if pace.ramp_s else pace.first))
    assert (np.diff(due_s) >= -1e-6).all()
    assert (due_s >= event_s / fastest * (1 - 1e-6) - 1e-6).all()
    assert (due_s <= event_s / slowest * (1 + 1e-6) + 1e-6).all()


@given(
    gaps_s=st.lists(st.floats(0, 1), min_size=1, max_size=60),
    rate=st.sampled_from([0.5, 7.0, 1e6, math.inf]),
    cut=st.integers(0, 60),
)
def test_a_limit_delays_each_no_more_than_it_must_however_they_come(
    gaps_s: list[float], rate: float, cut: int
) -> None:
    due_s = np.cumsum(gaps_s)
    expected, last_s = [], -math.inf
    for each in due_s.tolist():
        last_s = max(each, last_s + 1 / rate)
        expected.append(last_s)
    limiter = Limiter(rate)
    found = [*limiter.limited(due_s[:cut]), *limiter.limited(due_s[cut:])]
    assert found == pytest.approx(expected)
    assert found == sorted(found)


def test_max_with_a_limit_is_a_steady_rate() -> None:
    pace = Pace.of("max", rate_limit=200)
    due_s = Limiter(pace.rate_limit).limited(pace.sending_s(np.arange(5.0)))
    assert due_s.tolist() == pytest.approx([0, 0.005, 0.01, 0.015, 0.02])
