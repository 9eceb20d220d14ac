"""Cutting sessions, against the loop that says what it means."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import SettingsError
from models.sessions import DEFAULT_GAP_MS, DEFAULT_HOURLY_GAP_MS, default_gap_ms, starts_session

users = st.lists(st.lists(st.integers(0, 1000), max_size=8).map(sorted), max_size=6)


def flat(users: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    counts = [len(times) for times in users]
    starts = np.concatenate(([0], np.cumsum(counts)))[:-1].astype(np.int64)
    return np.array([time for times in users for time in times], dtype=np.int64), starts


@given(users, st.integers(1, 500))
def test_equals_the_loop(users: list[list[int]], gap_ms: int) -> None:
    times_ms, user_starts = flat(users)
    expected = [
        place == 0 or time_ms - times[place - 1] > gap_ms
        for times in users
        for place, time_ms in enumerate(times)
    ]
    assert starts_session(times_ms, user_starts, gap_ms).tolist() == expected


@given(users, st.integers(1, 500))
def test_greater_gap_never_gives_more_sessions(users: list[list[int]], gap_ms: int) -> None:
    times_ms, user_starts = flat(users)
    counts = [starts_session(times_ms, user_starts, gap).sum() for gap in (gap_ms, gap_ms + 1)]
    assert counts[1] <= counts[0]


def test_gap_itself_does_not_end_a_session() -> None:
    times_ms = np.array([0, 10, 21], dtype=np.int64)
    assert starts_session(times_ms, np.zeros(1, dtype=np.int64), 10).tolist() == [True, False, True]


def test_default_gap_follows_the_precision() -> None:
    assert default_gap_ms(3_600_000) == DEFAULT_HOURLY_GAP_MS
    assert default_gap_ms(60_000) == default_gap_ms(1000) == DEFAULT_GAP_MS


def test_gap_of_zero_is_refused() -> None:
    with pytest.raises(SettingsError, match="session gap is 0 ms"):
        starts_session(np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64), 0)
