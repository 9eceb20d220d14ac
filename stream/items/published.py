"""What readers have of the live items, and what they get next: the rows that moved most, within a budget."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.arrays import Doubles, Flags, Floats, Ints
from stream.store.item_rows import ItemRows, as_read, log_popularity, row_bytes

#: What a score must move by for a row to be published again.
NOTICEABLE = 0.02


def merged(*some: Ints) -> Ints:
    """Return the rows that are among any of these, ascending, each once: flags are faster than sorting."""
    flags = np.zeros(max((int(rows.max(initial=-1)) for rows in some), default=-1) + 1, np.bool_)
    for rows in some:
        flags[rows] = True
    return np.flatnonzero(flags)


@dataclass(frozen=True, slots=True)
class Pace:
    """What tells how much a row has moved.

    taste: how much a score moves with a vector, about: the length of users' vectors over sqrt(D); weights and
    half_lives_ms: see ItemsHeader.
    """

    taste: float
    weights: tuple[float, float]
    half_lives_ms: tuple[float, float]


class Published:
    """The rows as readers have them."""

    def __init__(self, dimension: int, pace: Pace) -> None:
        self._pace = pace
        self._vector = np.zeros((0, dimension), np.float16)
        self._count = np.zeros((0, 2), np.float32)
        self._counted_ms = np.zeros(0, np.int64)
        self._is_gone = np.zeros(0, np.bool_)
        self._is_there = np.zeros(0, np.bool_)
        self._item_ids: list[str] = []
        self._row_of: dict[str, int] = {}
        self._categories: list[str] = []

    def __len__(self) -> int:
        return len(self._item_ids)

    def row_of(self, item_id: str) -> int:
        """Return the row of an item that readers have, -1 where they have none."""
        return self._row_of.get(item_id, -1)

    def counts(self, known: int) -> tuple[int, int]:
        """Return how many items readers have from the stream, and how many of those are not the model's."""
        is_live = self._is_there & ~self._is_gone
        return int(is_live.sum()), int(is_live[known:].sum())

    def gone(self, rows: Ints) -> ItemRows:
        """Return rows that readers have, as gone."""
        return ItemRows(
            rows,
            np.zeros((len(rows), self._vector.shape[1]), np.float32),
            np.zeros((len(rows), 2), np.float32),
            np.zeros(len(rows), np.int64),
            np.ones(len(rows), np.bool_),
            [""] * len(rows),
            [""] * len(rows),
        )

    def is_there(self, rows: Ints) -> Flags:
        """Return which rows (n,) readers have, be it as gone."""
        found = np.zeros(len(rows), np.bool_)
        inside = rows < len(self)
        found[inside] = self._is_there[rows[inside]]
        return found

    def with_room(self, rows: Ints, budget: int) -> tuple[Ints, Ints]:
        """Return which of rows (n,), which ascend, `choose` may choose, and those that have to wait.

        What readers do not have comes first, the newest rows before others: behind as many as fit into so
        many bytes, it has to wait, however far it has moved.
        """
        missing = np.flatnonzero(~self.is_there(rows))
        late = missing[: max(len(missing) - budget // row_bytes(self._vector.shape[1]), 0)]
        return np.delete(rows, late), rows[late]

    def choose(self, now: ItemRows, now_ms: int, budget: int) -> tuple[Ints, Ints]:
        """Return the places in `now` to publish, of so many bytes at most, and those that have to wait.

        What has hardly moved is among neither. What readers do not have comes first, and of it the newest
        rows: of an item that the model knows they have what was trained, of a new one nothing.
        """
        moved = self._moved(now, now_ms)
        noticed = np.flatnonzero(moved >= NOTICEABLE)
        order = noticed[np.lexsort((-now.row[noticed], -moved[noticed]))]
        size = row_bytes(now.vector.shape[1])
        first = order[: budget // size]  # no more have room, whatever their texts are
        texts = [len(now.item_ids[place]) + len(now.categories[place]) for place in first.tolist()]
        sizes = np.cumsum(size + np.array(texts, np.int64))
        fitting = int(np.searchsorted(sizes, budget, side="right"))
        return order[:fitting], order[fitting:]

    def note(self, rows: ItemRows) -> None:
        """Take note that readers get these rows."""
        if not len(rows):
            return
        self._reserve(int(rows.row.max()) + 1)
        self._vector[rows.row], self._count[rows.row] = as_read(rows.vector), rows.count
        self._counted_ms[rows.row], self._is_gone[rows.row] = rows.counted_ms, rows.is_gone
        self._is_there[rows.row] = True
        for place, row in enumerate(rows.row.tolist()):
            self._rename(row, rows.item_ids[place])
            self._categories[row] = rows.categories[place]

    def _rename(self, row: int, item_id: str) -> None:
        before = self._item_ids[row]
        if before != item_id:
            if self._row_of.get(before) == row:
                del self._row_of[before]
            self._item_ids[row] = item_id
        if item_id:
            self._row_of[item_id] = row

    def rows(self, first: int, end: int) -> ItemRows:
        """Return what readers have of the rows from one to before another."""
        row = first + np.flatnonzero(self._is_there[first:end])
        return ItemRows(
            row,
            self._vector[row].astype(np.float32),
            self._count[row],
            self._counted_ms[row],
            self._is_gone[row],
            _at(self._item_ids, row),
            _at(self._categories, row),
        )

    def _moved(self, now: ItemRows, now_ms: int) -> Doubles:
        """Return about how far a score moves by what readers do not have of each row (n,)."""
        moved = np.full(len(now), np.inf)
        held = np.flatnonzero(self.is_there(now.row))
        row = now.row[held]
        # As readers would have it: what is lost in writing a row does not make it move.
        vector = as_read(now.vector[held]) - self._vector[row].astype(np.float32)
        half_lives_ms = self._pace.half_lives_ms
        before = log_popularity(self._count[row], self._counted_ms[row], half_lives_ms, now_ms)
        after = log_popularity(now.count[held], now.counted_ms[held], half_lives_ms, now_ms)
        moved[held] = self._pace.taste * _lengths(vector) + np.abs(after - before) @ np.abs(
            self._pace.weights
        )
        item_ids = _at(self._item_ids, row)
        is_other = np.array([now.item_ids[place] for place in held.tolist()], object) != np.array(
            item_ids, object
        )
        moved[held[np.asarray(is_other, np.bool_) | (now.is_gone[held] != self._is_gone[row])]] = np.inf
        moved[held[now.is_gone[held] & self._is_gone[row]]] = 0
        return moved

    def _reserve(self, rows: int) -> None:
        added = rows - len(self)
        if added <= 0:
            return
        self._item_ids += [""] * added
        self._categories += [""] * added
        if rows > len(self._is_there):
            room = max(rows, len(self._is_there) * 5 // 4 + 64) - len(self._is_there)
            self._vector = np.pad(self._vector, ((0, room), (0, 0)))
            self._count = np.pad(self._count, ((0, room), (0, 0)))
            self._counted_ms = np.pad(self._counted_ms, (0, room))
            self._is_gone, self._is_there = (
                np.pad(self._is_gone, (0, room)),
                np.pad(self._is_there, (0, room)),
            )


def _at(texts: Sequence[str], rows: Ints) -> list[str]:
    return [texts[row] for row in rows.tolist()]


def _lengths(vectors: Floats) -> Doubles:
    return np.asarray(np.sqrt(np.einsum("nd,nd->n", vectors, vectors)), np.float64)
