"""A history of some age ends that long before its target."""

import numpy as np
import pytest

from models.ids.vocabulary_file import FIRST_KNOWN
from models.windows.histories import Histories
from models.windows.window import WindowSettings
from offline.evaluation.staleness import histories_before

MINUTE_MS = 60_000


def past_of(minutes: list[list[int]]) -> Histories:
    times = np.array([minute for user in minutes for minute in user], dtype=np.int64) * MINUTE_MS
    return Histories(
        item=np.arange(len(times)) + FIRST_KNOWN,
        category=np.full(len(times), 2),
        behaviour=np.ones(len(times), np.uint8),
        time_ms=times,
        starts=np.cumsum([0, *map(len, minutes)]),
    )


def events_read(age_ms: int | None, window: WindowSettings) -> list[list[int]]:
    """Return the events that a history holds for event 4 of the first user and event 2 of the second."""
    past = past_of([[0, 10, 20, 30, 30], [5, 25, 26]])
    found = histories_before(past, np.array([4, 7]), age_ms, 15 * MINUTE_MS, window)
    return [
        (found.item[first:last] - FIRST_KNOWN).tolist()
        for first, last in zip(found.starts, found.starts[1:], strict=False)
    ]


@pytest.mark.parametrize(
    ("age_ms", "expected"),
    [
        (0, [[0, 1, 2, 3], [5, 6]]),
        (MINUTE_MS, [[0, 1, 2], [5, 6]]),
        (10 * MINUTE_MS, [[0, 1, 2], [5]]),
        (1000 * MINUTE_MS, [[], []]),
        (None, [[0, 1], [5]]),
    ],
)
def test_history_ends_that_long_before_the_target(age_ms: int | None, expected: list[list[int]]) -> None:
    assert events_read(age_ms, WindowSettings()) == expected


def test_old_history_is_still_a_window() -> None:
    assert events_read(0, WindowSettings(max_events=2)) == [[2, 3], [5, 6]]
    assert events_read(0, WindowSettings(horizon_ms=12 * MINUTE_MS)) == [[2, 3], [6]]
