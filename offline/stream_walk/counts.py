"""Decayed counts of items with many half-lives at once, so that the best of them is found in one walk."""

import numpy as np

from models.arrays import Doubles, Flags, Ints
from models.compiled import compiled
from models.log.times import HOUR_MS, MINUTE_MS

#: Half-lives that are tried (ms), from ten minutes to what is nearly for ever.
HALF_LIVES_MS = np.array(
    [10 * MINUTE_MS, *(hours * HOUR_MS for hours in (1, 4, 24, 96, 384, 1536))], np.float64
)


class DecayedCounts:
    """Of C items with H half-lives (ms): how many events they had, each by its age."""

    def __init__(self, item_count: int, half_lives_ms: Doubles) -> None:
        self.half_lives_ms = half_lives_ms
        self._counts = np.zeros((item_count, len(half_lives_ms)))
        self._at_ms = np.zeros(item_count, np.int64)

    def add(self, item: Ints, time_ms: Ints, is_counted: Flags) -> None:
        """Count those of E events, in time order, that are counted."""
        _add(self._counts, self._at_ms, self.half_lives_ms, item, time_ms, is_counted)

    def logs(self, now_ms: int) -> Doubles:
        """Return log(1 + count) (C, H) at a time."""
        age_ms = np.maximum(now_ms - self._at_ms, 0)[:, None]
        return np.log1p(self._counts * np.exp2(-age_ms / self.half_lives_ms))


@compiled
def _add(
    counts: Doubles, at_ms: Ints, half_lives_ms: Doubles, item: Ints, time_ms: Ints, is_counted: Flags
) -> None:
    for event in range(len(item)):
        if is_counted[event]:
            row = item[event]
            age_ms = time_ms[event] - at_ms[row]
            for each in range(len(half_lives_ms)):
                counts[row, each] = counts[row, each] * np.exp2(-age_ms / half_lives_ms[each]) + 1
            at_ms[row] = time_ms[event]
