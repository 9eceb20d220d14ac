"""Histories -> the padded columns that rankers read, the same offline and online; needs no torch."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from models.ages import age_buckets
from models.arrays import Ints
from models.ids.vocabulary_file import PADDING
from models.rankers.settings import RankerSettings
from models.sessions import starts_session
from models.windows.histories import Histories

#: Stands in `EventRows.event` where there is no event.
NO_EVENT = -1


@dataclass(frozen=True, slots=True)
class EventRows:
    """What a ranker reads of B users, all (B, T) int64, oldest first; PADDING where there is no event.

    item, category: vocabulary indices; behaviour: 1 to 4; age: bucket of the time since the event; event: the
    place of the event among those of the histories, NO_EVENT for none. Of DSIN the places are those of S
    sessions one after the other, the newest last; of the others the first are filled.
    """

    item: Ints
    category: Ints
    behaviour: Ints
    age: Ints
    event: Ints

    def columns(self) -> dict[str, Ints]:
        """Return what a ranker's graph is fed, by name."""
        return {"item": self.item, "category": self.category, "behaviour": self.behaviour, "age": self.age}


def event_rows(histories: Histories, now_ms: Ints, settings: RankerSettings) -> EventRows:
    """Return what a ranker reads of B users at now_ms (B,)."""
    firsts = np.maximum(histories.starts[1:] - settings.max_events, histories.starts[:-1])
    if settings.kind == "dsin":
        firsts = histories.starts[:-1]
    return rows_of_spans(histories, firsts, histories.starts[1:], now_ms, settings)


def rows_of_spans(
    histories: Histories, firsts: Ints, ends: Ints, now_ms: Ints, settings: RankerSettings
) -> EventRows:
    """Return what a ranker reads of B stretches of events, firsts to ends (B,), at now_ms (B,)."""
    firsts = within_horizon(histories.time_ms, firsts, ends, settings.horizon_ms)
    if settings.kind == "dsin":
        event = session_places(histories.time_ms, firsts, ends, settings)
    else:
        event = newest_places(firsts, ends, settings.max_events)
    is_real = event >= 0
    place = event[is_real]

    def laid_out(values: npt.NDArray[Any]) -> Ints:
        column = np.full(event.shape, PADDING, np.int64)
        column[is_real] = values
        return column

    now = np.broadcast_to(now_ms[:, None], event.shape)[is_real]
    return EventRows(
        laid_out(histories.item[place]),
        laid_out(histories.category[place]),
        laid_out(histories.behaviour[place]),
        laid_out(age_buckets(now - histories.time_ms[place])),
        event,
    )


def newest_places(firsts: Ints, ends: Ints, max_events: int) -> Ints:
    """Return the events (B, T) of each row, the newest `max_events`; T is what the longest needs."""
    counts = np.minimum(ends - firsts, max_events)
    place = np.arange(max(int(counts.max(initial=0)), 1))
    return np.where(place < counts[:, None], (ends - counts)[:, None] + place, NO_EVENT)


def session_places(time_ms: Ints, firsts: Ints, ends: Ints, settings: RankerSettings) -> Ints:
    """Return the events (B, S * L) of each row's newest S sessions, of each the newest L.

    The newest session has the last L places; a session's events fill the first of its places.
    """
    most, length = settings.sessions, settings.max_events // settings.sessions
    counts = ends - firsts
    row = np.repeat(np.arange(len(counts)), counts)
    own_starts = np.cumsum(counts) - counts
    event = np.arange(len(row)) - own_starts[row] + firsts[row]
    opens = starts_session(time_ms[event], own_starts, settings.gap_ms)
    number = np.cumsum(opens)  # from 1, over all rows
    last = np.append(number, 0)[np.maximum(own_starts + counts - 1, 0)]
    back = last[row] - number  # 0 for the newest session
    size = np.bincount(number, minlength=1)
    begins = np.append(np.flatnonzero(opens), len(row))[number - 1]
    in_session = np.arange(len(row)) - begins
    skipped = np.maximum(size[number] - length, 0) if len(row) else np.zeros(0, np.int64)
    is_read = (back < most) & (in_session >= skipped)
    found = np.full((len(counts), most * length), NO_EVENT, np.int64)
    place = (most - 1 - back) * length + in_session - skipped
    found[row[is_read], place[is_read]] = event[is_read]
    return found


def within_horizon(time_ms: Ints, firsts: Ints, ends: Ints, horizon_ms: int) -> Ints:
    """Return the first event (B,) of each row that is no older than the horizon before its newest."""
    found = firsts.copy()
    has_events = np.flatnonzero(firsts < ends)
    earliest = time_ms[ends[has_events] - 1] - horizon_ms
    low, high = firsts[has_events], ends[has_events] - 1
    while (low < high).any():  # bisection of all rows at once
        middle = (low + high) // 2
        is_old = time_ms[middle] < earliest
        low, high = np.where(is_old, middle + 1, low), np.where(is_old, high, middle)
    found[has_events] = low
    return found
