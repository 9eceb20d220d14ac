"""What is published and when: pure, from a log, the options and a seed; no clock and no Kafka.

A log of hour precision holds all rows of an hour under one time; sent as they stand they would be one burst
and 36 s of silence at 100x. So the rows of one unit of the log's precision are spread over that unit, in
their order; their times stay as they are in the log.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import count

import numpy as np
from numpy.typing import NDArray

from models.errors import DataError, SettingsError
from replay.chance import Chance, Draw
from replay.disturbances import Disturbances, Disturbed, Mark, disturbed
from replay.ordered_log import Chunk, OrderedLog
from replay.pace import Limiter, Pace
from replay.rebase import shift_ms
from replay.records import DEFECTS, Records, joined, nothing, spoil
from replay.source import MessageSource

#: Records made at a time.
BLOCK_RECORDS = 1 << 14

#: How often a log is sent, where that has no end.
FOREVER = 0


class Spread(StrEnum):
    """How rows of one unit of time (an hour, where a log knows no better) are spread over it."""

    EVEN = "even"
    UNIFORM = "uniform"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class ScheduleSettings:
    """What is made of a log."""

    pace: Pace = field(default_factory=Pace)
    spread: Spread = Spread.EVEN
    disturbances: Disturbances = field(default_factory=Disturbances)
    #: How often the log is sent, one time after the other; or FOREVER.
    laps: int = 1
    #: Decides all that chance does.
    seed: int = 1
    #: The time (epoch ms) at which the replay is taken to start, so that no event is ahead of the clock; None
    #: leaves times as they are.
    rebase_ms: int | None = None

    def __post_init__(self) -> None:
        fastest = max(self.pace.first, self.pace.last)
        if self.rebase_ms is not None and self.laps == FOREVER and fastest > 1:
            raise SettingsError(
                f"--loop without an end and --rebase-time at {self.pace} get ahead of the clock: give --loop "
                "a number, or --speed 1x"
            )


class Schedule:
    """The records of a replay, each with the time after its start at which it is due."""

    def __init__(self, log: OrderedLog, settings: ScheduleSettings) -> None:
        self.log, self.settings = log, settings
        #: By how much the times of all events are moved (ms).
        self.shift_ms = 0
        if settings.rebase_ms is not None:
            self.shift_ms = shift_ms(log.timeline, settings.pace, settings.laps or 1, settings.rebase_ms)
        if log.timeline.last_ms + self.shift_ms < 0:
            raise DataError(
                f"{log.name}: all events would happen before 1970, and no worker takes such times: "
                "move them with --rebase-time"
            )
        self._chance = Chance(settings.seed)
        self._source: MessageSource | None = None

    @property
    def records_about(self) -> int | None:
        """Return about how many records there are, to the accuracy of chance; None where there is no end."""
        wanted = self.settings.disturbances
        rows = self.log.timeline.rows * self.settings.laps
        return round(rows * (1 + wanted.duplicate + wanted.malformed)) or None

    def blocks(self) -> Iterator[Records]:
        """Yield all records, in the order in which they are due; `due_s` is after the start of the replay."""
        pace, limiter = self.settings.pace, Limiter(self.settings.pace.rate_limit)
        for records in self._in_event_time():
            yield records.due(limiter.limited(pace.sending_s(records.due_s)))

    def _in_event_time(self) -> Iterator[Records]:
        """Yield all records, `due_s` being event time after the first event."""
        waiting = nothing()
        for lap, chunk in self._chunks():
            made = self._records(chunk, lap)
            if not self.settings.disturbances.move_rows:
                yield from made
                continue
            waiting = joined([waiting, *made])
            order = np.argsort(waiting.due_s, kind="stable")
            is_over = waiting.due_s[order] < self._end_s(chunk, lap)
            yield from _parts(waiting.take(order[is_over]))
            waiting = waiting.take(np.sort(order[~is_over]))
        yield from _parts(waiting.take(np.argsort(waiting.due_s, kind="stable")))

    def _chunks(self) -> Iterator[tuple[int, Chunk]]:
        laps = count() if self.settings.laps == FOREVER else range(self.settings.laps)
        for lap in laps:
            for chunk in self.log.chunks():
                yield lap, chunk

    def _end_s(self, chunk: Chunk, lap: int) -> float:
        """Return the event time before which no row of the chunks after this one is due."""
        timeline = self.log.timeline
        last = timeline.units(chunk.log.time_ms[chunk.end - 1 : chunk.end])
        end_ms = timeline.replay_ms(last) + timeline.lengths_ms(last) + lap * timeline.length_ms
        return float(end_ms[0]) / 1_000

    def _records(self, chunk: Chunk, lap: int) -> Iterator[Records]:
        """Yield the records that become of a chunk's rows, row by row."""
        rows = np.arange(chunk.first, chunk.end)
        positions = rows - chunk.first + chunk.position + lap * self.log.timeline.rows
        due_s = self._due_s(chunk, lap, positions)
        if self._source is None or self._source.log is not chunk.log:
            self._source = MessageSource(chunk.log, chunk.ids)
        for first in range(0, len(rows), BLOCK_RECORDS):
            block = slice(first, first + BLOCK_RECORDS)
            yield self._block(_Rows(self._source, rows[block], positions[block], due_s[block], lap))

    def _due_s(self, chunk: Chunk, lap: int, positions: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return when rows (R,) are due, in event time (s) after the first."""
        timeline = self.log.timeline
        units = timeline.units(chunk.log.time_ms[chunk.first : chunk.end])
        starts = np.flatnonzero(np.diff(units, prepend=units[0] - 1))
        counts = np.diff(starts, append=len(units))
        begin_s = (timeline.replay_ms(units[starts]) + lap * timeline.length_ms) / 1_000
        length_s = timeline.lengths_ms(units[starts]) / 1_000
        within = self._within(starts, counts, positions)
        due_s: NDArray[np.float64] = np.repeat(begin_s, counts) + within * np.repeat(length_s, counts)
        return due_s

    def _within(
        self, starts: NDArray[np.int64], counts: NDArray[np.int64], positions: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Return how far into its unit each row (R,) is due, from 0 to under 1, ascending in each unit.

        starts, counts (U,) the first row of each unit and how many it has.
        """
        if self.settings.spread == Spread.NONE:
            return np.zeros(len(positions))
        first = np.repeat(starts, counts)
        if self.settings.spread == Spread.EVEN:
            return (np.arange(len(positions)) - first) / np.repeat(counts, counts)
        within = self._chance.of(Draw.SPREAD, positions)
        return within[np.lexsort((within, first))]

    def _block(self, rows: "_Rows") -> Records:
        """Return the records that become of rows."""
        wanted = self.settings.disturbances
        if wanted == Disturbances():
            marks = np.zeros(len(rows.rows), np.uint8)
            return self._made(rows, rows.rows, rows.due_s, marks)
        found = disturbed(wanted, self._chance, rows.positions)
        due_s = rows.due_s[found.row] + found.delay_s
        records = self._made(rows, rows.rows[found.row], due_s, found.marks)
        self._spoil(records, found, rows.positions)
        return records

    def _made(
        self, of: "_Rows", rows: NDArray[np.int64], due_s: NDArray[np.float64], marks: NDArray[np.uint8]
    ) -> Records:
        """Return a record for each of some rows (M,), which may come more than once."""
        time_ms = of.source.log.time_ms[rows] + (self.shift_ms + of.lap * self.log.timeline.length_ms)
        is_hot = marks & Mark.HOT_USER > 0
        keys, values = of.source.records(rows, time_ms, of.lap, is_hot if is_hot.any() else None)
        return Records(keys, values, time_ms, due_s, marks)

    def _spoil(self, records: Records, found: Disturbed, positions: NDArray[np.int64]) -> None:
        """Make the records that are to be malformed so, in place."""
        broken = np.flatnonzero(found.marks & Mark.MALFORMED)
        defects = self._chance.of(Draw.MALFORMED_KIND, positions[found.row[broken]]) * len(DEFECTS)
        for place, defect in zip(broken.tolist(), defects.astype(int).tolist(), strict=True):
            record = records.keys[place], records.values[place]
            records.keys[place], records.values[place] = spoil(record, defect)


@dataclass(frozen=True, slots=True)
class _Rows:
    """R rows of a log: which, their places in all laps together, when they are due, and in which lap."""

    source: MessageSource
    rows: NDArray[np.int64]
    positions: NDArray[np.int64]
    due_s: NDArray[np.float64]
    lap: int


def _parts(records: Records) -> Iterator[Records]:
    """Yield records in parts of BLOCK_RECORDS."""
    for first in range(0, len(records), BLOCK_RECORDS):
        yield records.part(slice(first, first + BLOCK_RECORDS))
