"""A log's histories in pieces, each of which a window could hold: a user at one time after the other."""

import numpy as np

from models.windows.histories import Histories
from models.windows.window import WindowSettings


def cut_like_windows(histories: Histories, window: WindowSettings) -> Histories:
    """Return the same events in pieces, cut from each user's newest on: the last is what the window holds.

    Every piece has at most `max_events` within `horizon_ms` of its newest event.
    """
    starts = [len(histories.time_ms)]
    for first, end in zip(histories.starts[-2::-1].tolist(), histories.starts[:0:-1].tolist(), strict=True):
        begin = end
        while begin > first:
            oldest_ms = histories.time_ms[begin - 1] - window.horizon_ms
            within = first + int(np.searchsorted(histories.time_ms[first:begin], oldest_ms, side="left"))
            begin = max(within, begin - window.max_events)
            starts.append(begin)
    return Histories(
        histories.item,
        histories.category,
        histories.behaviour,
        histories.time_ms,
        np.array(starts[::-1], np.int64),
    )
