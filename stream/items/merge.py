"""Partitions -> one order of events, which does not depend on when each was fetched.

Records come in the order of (clock, partition, offset), a record's clock being the newest timestamp of its
partition up to it. So whoever reads the same records again, from any place in that order, gets the same
events. A record waits until no partition can have an earlier one: each has shown a later clock, or is read to
its end, and the wall clock is HOLD_MS further. What a broker gets later than that, and with an older
timestamp, is taken when it comes; what has a timestamp to come, WAIT_MS after it came.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from models.arrays import Ints
from models.ids.texts import Texts
from models.windows.fold import EventColumns

#: How long after its timestamp a record may reach its partition and still have its place (ms); and how long
#: it waits at most where all partitions are read to their ends (ms): a producer's clock may be ahead.
HOLD_MS, WAIT_MS = 250, 1_000


@dataclass(frozen=True, slots=True)
class Control:
    """What a control record says: to forget a user, or an item."""

    kind: str
    id: str


@dataclass(frozen=True, slots=True)
class Position:
    """Where a partition goes on: the offset of the next record, and the clock before it (epoch ms)."""

    offset: int
    clock_ms: int


@dataclass(frozen=True, slots=True)
class Piece:
    """Some records of a partition: readable events, or one control record.

    clock (E,) of each event or (1,) of the control record; offset likewise; after: the position behind all of
    the records, also those that could not be read.
    """

    clock: Ints
    offset: Ints
    user_ids: list[str]
    events: EventColumns | None
    control: Control | None
    after: Position

    def __len__(self) -> int:
        return len(self.clock)


@dataclass(slots=True)
class Lane:
    """A partition: pieces that wait, of the first only what comes from event `begin` on.

    came_ms: when each of them came (wall clock, ms).
    """

    position: Position
    pieces: list[Piece] = field(default_factory=list)
    came_ms: list[int] = field(default_factory=list)
    begin: int = 0
    newest_ms: int = 0
    is_at_end: bool = False

    @property
    def waiting(self) -> int:
        """Return how many events wait."""
        return sum(map(len, self.pieces)) - self.begin


@dataclass(frozen=True, slots=True)
class Batch:
    """Events in their order, or what a control record says between two of them."""

    user_ids: list[str]
    events: EventColumns | None
    control: Control | None = None


class Merge:
    """The partitions of a topic, from these positions on."""

    def __init__(self, positions: Mapping[int, Position]) -> None:
        self._lanes = {
            partition: Lane(position, newest_ms=position.clock_ms)
            for partition, position in positions.items()
        }

    @property
    def positions(self) -> dict[int, Position]:
        """Return where each partition goes on behind what `ready` has given."""
        return {partition: lane.position for partition, lane in self._lanes.items()}

    @property
    def waiting(self) -> dict[int, int]:
        """Return how many events of each partition wait."""
        return {partition: lane.waiting for partition, lane in self._lanes.items()}

    def newest_ms(self, partition: int) -> int:
        """Return the clock of a partition."""
        return self._lanes[partition].newest_ms

    def add(self, partition: int, piece: Piece, now_ms: int) -> None:
        """Take the next records of a partition."""
        lane = self._lanes[partition]
        lane.pieces.append(piece)
        lane.came_ms.append(now_ms)
        lane.newest_ms, lane.is_at_end = piece.after.clock_ms, False
        self._pass(lane)

    def note_end(self, partition: int) -> None:
        """Take note that a partition has no more records at the moment."""
        self._lanes[partition].is_at_end = True

    def note_more(self, partition: int) -> None:
        """Take note that a partition may have more records than were read: its end is to be told again."""
        self._lanes[partition].is_at_end = False

    def ready(self, now_ms: int) -> Iterator[Batch]:
        """Yield what has its place now; `positions` counts what was yielded once the iterator is over."""
        bound, at_end = self._bound(now_ms), all(lane.is_at_end for lane in self._lanes.values())
        due_ms = now_ms - WAIT_MS if at_end else 0
        taken = [
            (partition, part)
            for partition, lane in self._lanes.items()
            for part in self._take(lane, partition, bound, due_ms)
        ]
        if not taken:
            return
        partition = np.concatenate([np.full(end - begin, number) for number, (_, begin, end) in taken])
        clock = np.concatenate([piece.clock[begin:end] for _, (piece, begin, end) in taken])
        offset = np.concatenate([piece.offset[begin:end] for _, (piece, begin, end) in taken])
        order = np.lexsort((offset, partition, clock))
        parts = [part for _, part in taken]
        yield from _batches(parts, order)

    def _bound(self, now_ms: int) -> tuple[int, int]:
        """Return the clock and the partition up to which no earlier record can come."""
        return min(
            (max(lane.newest_ms, now_ms - HOLD_MS if lane.is_at_end else lane.newest_ms), partition)
            for partition, lane in self._lanes.items()
        )

    def _take(
        self, lane: Lane, partition: int, bound: tuple[int, int], due_ms: int
    ) -> list[tuple[Piece, int, int]]:
        """Take what a lane has up to the bound: pieces, each from one event to before another.

        Pieces that came before `due_ms` (wall clock) are taken whole.
        """
        side = "right" if partition <= bound[1] else "left"
        found = []
        while lane.pieces:
            piece = lane.pieces[0]
            end = int(np.searchsorted(piece.clock, bound[0], side=side))  # type: ignore[call-overload]
            if lane.came_ms[0] < due_ms:
                end = len(piece)
            if end > lane.begin:
                found.append((piece, lane.begin, end))
                lane.position = Position(int(piece.offset[end - 1]) + 1, int(piece.clock[end - 1]))
            lane.begin = max(end, lane.begin)
            if lane.begin < len(piece):
                break
            self._pass(lane)
        return found

    @staticmethod
    def _pass(lane: Lane) -> None:
        """Go behind pieces of which no event is left."""
        while lane.pieces and lane.begin >= len(lane.pieces[0]):
            lane.position = lane.pieces.pop(0).after
            lane.came_ms.pop(0)
            lane.begin = 0


def _batches(parts: list[tuple[Piece, int, int]], order: Ints) -> Iterator[Batch]:
    """Yield parts of pieces in this order (E,) of all their events, cut where a control record stands."""
    sizes = np.array([end - begin for _, begin, end in parts])
    part = np.repeat(np.arange(len(parts)), sizes)
    place = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    is_control = np.repeat([piece.control is not None for piece, _, _ in parts], sizes)[order]
    start = 0
    for cut in [*np.flatnonzero(is_control).tolist(), len(order)]:
        some = order[start:cut]
        if len(some):
            yield _gathered([parts[each] for each in np.unique(part[some])], part[some], place[some])
        if cut < len(order):
            yield Batch([], None, parts[part[order[cut]]][0].control)
        start = cut + 1


def _gathered(parts: list[tuple[Piece, int, int]], part: Ints, place: Ints) -> Batch:
    """Return the events at these places (E,) of their parts; part (E,) numbers all parts, in their order."""
    _, part = np.unique(part, return_inverse=True)
    columns, user_ids, firsts, users = [], [], [0], [0]
    for piece, begin, _ in parts:
        assert piece.events is not None  # a control record is no event
        columns.append((piece.events, begin))
        firsts.append(firsts[-1] + len(piece.events))
        users.append(users[-1] + len(piece.user_ids))
        user_ids += piece.user_ids
    begins = np.array([begin for _, begin in columns])
    at = np.array(firsts)[part] + begins[part] + place
    events = [each for each, _ in columns]
    return Batch(
        user_ids,
        EventColumns(
            user=np.concatenate([each.user + first for each, first in zip(events, users, strict=False)])[at],
            offset=np.concatenate([each.offset for each in events])[at],
            time_ms=np.concatenate([each.time_ms for each in events])[at],
            behaviour=np.concatenate([each.behaviour for each in events])[at],
            event_hash=np.concatenate([each.event_hash for each in events])[at],
            item=_taken([each.item for each in events], at),
            category=_taken([each.category for each in events], at),
        ),
    )


def _taken(many: list[Texts], places: Ints) -> Texts:
    """Return the texts at these places of all of them, one behind the other."""
    text = np.concatenate([each.text[: each.starts[-1]] for each in many])
    lengths = np.concatenate([each.lengths() for each in many])
    firsts = np.concatenate([[0], np.cumsum(lengths)])[places]
    starts = np.concatenate([[0], np.cumsum(lengths[places])])
    at = np.repeat(firsts - starts[:-1], lengths[places]) + np.arange(starts[-1])
    taken = text[at]
    taken.setflags(write=False)
    return Texts(taken, starts)
