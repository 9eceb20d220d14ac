"""The time of a replay: that of its log without the silences that nobody would wait for."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: A longer time without any row is left out: stray rows of other years may stand before all others (ms).
MAX_SILENCE_MS = 7 * 86_400_000
#: Over what the rows of the last hour, minute or second before such a silence are spread, at most (ms).
CUT_UNIT_MS = 1_000

Times = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Timeline:
    """When things happen in a replay at the pace of the log, in ms from its beginning.

    A unit is an hour, minute, second or millisecond, whichever the log's times know; it is named by its first
    millisecond.
    """

    rows: int
    unit_ms: int
    #: The first and the last unit (epoch ms).
    first_ms: int
    last_ms: int
    #: The units (C,) before and after each silence that is left out (epoch ms).
    before_ms: Times
    after_ms: Times

    @property
    def length_ms(self) -> int:
        """Return how long the replay takes, to the end of its last unit."""
        return int(self.replay_ms(np.array([self.last_ms]))[0]) + self.unit_ms

    @property
    def cut_ms(self) -> int:
        """Return to how much a unit before a silence that is left out shrinks."""
        return min(self.unit_ms, CUT_UNIT_MS)

    def units(self, time_ms: Times) -> Times:
        """Return the unit of each time (R,)."""
        return time_ms // self.unit_ms * self.unit_ms

    def replay_ms(self, units_ms: Times) -> Times:
        """Return when units (U,) begin."""
        left_out = np.concatenate(([0], np.cumsum(self.after_ms - self.before_ms - self.cut_ms)))
        found: Times = units_ms - self.first_ms - left_out[np.searchsorted(self.after_ms, units_ms, "right")]
        return found

    def lengths_ms(self, units_ms: Times) -> Times:
        """Return how long units (U,) last."""
        return np.where(np.isin(units_ms, self.before_ms), self.cut_ms, self.unit_ms)


def timeline_of(unit_ms: int, times: Iterable[Times]) -> Timeline:
    """Return the timeline of one row or more, whose times (R,) come in parts, all in ascending order."""
    rows, first, last = 0, 0, 0
    before: list[Times] = []
    after: list[Times] = []
    for time_ms in times:
        if not len(time_ms):
            continue
        units = time_ms // unit_ms * unit_ms
        first = first if rows else int(units[0])
        known = np.concatenate(([last if rows else first], units))
        cuts = np.flatnonzero(np.diff(known) > MAX_SILENCE_MS)
        before.append(known[cuts])
        after.append(known[cuts + 1])
        rows, last = rows + len(units), int(units[-1])
    return Timeline(rows, unit_ms, first, last, np.concatenate(before), np.concatenate(after))
