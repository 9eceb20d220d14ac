"""A log in the order of time, in parts of which each has whole units of time; in memory or on the disk."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from models.log.behaviour_log import BehaviourLog
from models.log.event_ids import EventIds
from replay.selection import Selection, no_rows
from replay.timeline import Timeline, timeline_of

#: Rows of a part, but for those of the same unit of time (an hour where the log knows no better).
CHUNK_ROWS = 1 << 17


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some rows of a log that is in time order, and the ids of their events."""

    log: BehaviourLog
    ids: EventIds
    first: int
    end: int
    #: How many rows of the whole log stand before them.
    position: int


class OrderedLog(Protocol):
    """A log in time order that can be read again and again."""

    name: str
    timeline: Timeline

    def chunks(self) -> Iterator[Chunk]:
        """Yield all rows; no two chunks have rows of the same unit of time."""


class LogInMemory:
    """The chosen rows of a log that memory holds."""

    def __init__(self, log: BehaviourLog, selection: Selection = Selection()) -> None:  # noqa: B008
        self.name = log.path
        chosen = selection.rows_of(log).in_time_order()
        if selection.limit is not None:
            chosen = chosen.select(np.arange(min(selection.limit, len(chosen))))
        if not len(chosen):
            raise no_rows(log.path, int(log.time_ms.min()), int(log.time_ms.max()))
        self._log, self._ids = chosen, EventIds(chosen)
        self.timeline = timeline_of(log.precision_ms, [chosen.time_ms])

    def chunks(self) -> Iterator[Chunk]:
        """Yield all rows; no two chunks have rows of the same unit of time."""
        units = self.timeline.units(self._log.time_ms)
        first = 0
        while first < len(units):
            last = min(first + CHUNK_ROWS, len(units)) - 1
            end = int(np.searchsorted(units, units[last], "right"))
            yield Chunk(self._log, self._ids, first, end, position=first)
            first = end
