"""Cutting a user's events into sessions by time gap."""

import numpy as np
import numpy.typing as npt

from models.errors import SettingsError

#: The gap where the log's clock shows seconds or minutes, and where it shows only hours.
DEFAULT_GAP_MS = 30 * 60_000
DEFAULT_HOURLY_GAP_MS = 2 * 3_600_000


def default_gap_ms(precision_ms: int) -> int:
    """Return the session gap for a log whose times are multiples of `precision_ms`."""
    return DEFAULT_HOURLY_GAP_MS if precision_ms >= 3_600_000 else DEFAULT_GAP_MS


def starts_session(
    times_ms: npt.NDArray[np.int64], user_starts: npt.NDArray[np.int64], gap_ms: int
) -> npt.NDArray[np.bool_]:
    """Return, per event, whether it opens a session: its user's first, or over `gap_ms` after the one before.

    times_ms (E,) event times, users one after the other, each in time order; user_starts (B,) the index of
    each user's first event (users without events may be left out or point past the end).
    """
    if gap_ms < 1:
        raise SettingsError(f"the session gap is {gap_ms} ms; it must be at least 1")
    starts = np.empty(len(times_ms), dtype=np.bool_)
    np.greater(np.diff(times_ms), gap_ms, out=starts[1:])
    starts[user_starts[user_starts < len(times_ms)]] = True
    return starts
