"""The stretches of history that are learned: targets of one period, and the events that each may read."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from models.arrays import Ints
from models.ids.vocabulary_file import FIRST_KNOWN
from models.windows.histories import Histories


@dataclass(frozen=True, slots=True)
class Stretches:
    """S stretches: events first[s] on are read, begin[s] to last[s] (without it) are targets.

    A target reads the events of its stretch before it. period (S,): in which all targets of a stretch lie.
    """

    first: Ints
    begin: Ints
    last: Ints
    period: Ints

    def of_period(self, number: int) -> "Stretches":
        """Return those of one period."""
        return self.take(np.flatnonzero(self.period == number))

    def take(self, some: Ints) -> "Stretches":
        """Return some of them (indices)."""
        return Stretches(self.first[some], self.begin[some], self.last[some], self.period[some])

    def __len__(self) -> int:
        return len(self.first)


def periods_of(times_ms: Ints, count: int) -> Ints:
    """Return when each of at most `count` periods begins, of about equally many rows (R,)."""
    ordered = np.sort(times_ms)
    return np.unique(ordered[np.arange(count) * len(ordered) // count])


def cut_stretches(histories: Histories, begins_ms: Ints, read_events: int, horizon_ms: int) -> Stretches:
    """Return the stretches whose targets are all events, each within one user and period.

    A target reads `read_events` at most, within the horizon of the newest of them, and at least half as many
    where there are so many.
    """
    period = np.searchsorted(begins_ms, histories.time_ms, side="right") - 1
    found: list[tuple[int, int, int]] = []
    for user_first, begin, end in _runs(histories, period):
        found += _cut(histories.time_ms, user_first, begin, end, read_events, horizon_ms)
    first, begin_, last = np.array(found, np.int64).reshape(-1, 3).T
    return Stretches(first, begin_, last, period[begin_])


def _runs(histories: Histories, period: Ints) -> Iterator[tuple[int, int, int]]:
    """Yield where a user begins, and where their events of one period begin and end."""
    user = np.repeat(np.arange(len(histories)), np.diff(histories.starts))
    changes = np.flatnonzero((np.diff(user) != 0) | (np.diff(period) != 0)) + 1
    begins = np.concatenate(([0], changes))
    ends = np.append(changes, len(user))
    yield from zip(histories.starts[user[begins]].tolist(), begins.tolist(), ends.tolist(), strict=True)


def _cut(
    time_ms: Ints, user_first: int, begin: int, end: int, read_events: int, horizon_ms: int
) -> Iterator[tuple[int, int, int]]:
    targets = max(read_events // 2, 1)
    while begin < end:
        first = max(user_first, begin - (read_events + 1 - targets))
        if begin > user_first:
            first += int(np.searchsorted(time_ms[first:begin], time_ms[begin - 1] - horizon_ms))
        last = min(end, begin + targets)
        too_new = int(np.searchsorted(time_ms[begin:last], time_ms[first] + horizon_ms, side="right"))
        last = min(
            last, begin + too_new + 1
        )  # the event at which the first is too old may be the last target
        yield first, begin, last
        begin = last


def known_targets(histories: Histories, stretches: Stretches) -> tuple[Ints, Ints]:
    """Return the stretch and the event of each target whose item is known, (M,) each."""
    counts = stretches.last - stretches.begin
    stretch = np.repeat(np.arange(len(stretches)), counts)
    event = np.arange(counts.sum()) + np.repeat(stretches.begin - (np.cumsum(counts) - counts), counts)
    is_known = histories.item[event] >= FIRST_KNOWN
    return stretch[is_known], event[is_known]
