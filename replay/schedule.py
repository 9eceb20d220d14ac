"""When each row of a replay is due: pure pacing, with the clock and the sleep passed in.

Event times in the payload stay as they are in the file; only the *sending* is spread. A file of hour
precision holds all rows of an hour under one time; sent as they stand they would be one burst and 36 s of
silence at 100x. So the rows of one unit of the file's precision (hour, minute or second) are spread evenly
over that unit, in their order.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from models.errors import SettingsError

#: Rows that fall due within this time are sent together (s).
SLICE_S = 0.005
#: Longest sleep, so that a stop is noticed and delivery reports are served (s).
MAX_SLEEP_S = 0.2
#: Rows sent at most before the caller is asked again.
MAX_SLICE_ROWS = 1_000


def parse_speed(text: str) -> float:
    """Return how many times faster than the events happened: 100.0 of `100x`, infinity of `max`."""
    if text == "max":
        return math.inf
    try:
        speed = float(text.removesuffix("x"))
    except ValueError:
        speed = math.nan
    if not 0 < speed < math.inf:
        raise SettingsError(f"--speed is {text!r}; give a factor above 0 such as 100x, or max")
    return speed


def due_times_s(time_ms: NDArray[np.int64], precision_ms: int) -> NDArray[np.float64]:
    """Return when each row is due at speed 1, in seconds after the first.

    time_ms (R,) in ascending order. The i-th of the n rows of a unit is due i/n into it.
    """
    unit = time_ms // precision_ms
    _, first, count = np.unique(unit, return_index=True, return_counts=True)
    within = (np.arange(len(unit)) - np.repeat(first, count)) / np.repeat(count, count)
    due_s: NDArray[np.float64] = (unit - unit[0] + within) * (precision_ms / 1_000)
    return due_s


def paced_slices(
    due_s: NDArray[np.float64], speed: float, clock: Callable[[], float], sleep: Callable[[float], None]
) -> Iterator[slice]:
    """Yield runs of rows as they fall due; an empty one after each sleep in which none did.

    due_s (R,) ascending, as from `due_times_s`. Behind time, runs follow each other without sleep.
    """
    due_s = due_s / speed
    start_s, row = clock(), 0
    while row < len(due_s):
        elapsed_s = clock() - start_s
        end = int(np.searchsorted(due_s, elapsed_s, side="right"))
        end = min(end, row + MAX_SLICE_ROWS)
        if end == row:
            sleep(min(max(due_s[row] - elapsed_s, SLICE_S), MAX_SLEEP_S))
        yield slice(row, end)
        row = end
