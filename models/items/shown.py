"""What may be shown of a learner's items: nobody's taste alone is in it.

An item with fewer than `min_readers` readers has its vectors as trained, a new one those with which it began.
`items`, where a method takes it, is an earlier `ItemLearner.snapshot`; else rows are as they are now.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from models.arrays import Doubles, Flags, Floats, Ints
from models.ids.hashes import hashes_of
from models.ids.texts import texts_of
from models.items.names import ItemNames
from models.items.rows import Items, Room, Rules
from models.items.slots import find
from models.items.starts import start_vectors
from models.items.tables import Tables, with_rows
from models.items.trained import Trained
from models.items.vectors import score_shown, user_vector


class ShownItems(NamedTuple):
    """What may be shown of R items.

    item_ids, categories (R,) texts, a category "" where none is known; inputs, outputs (R, D) float32 in the
    artifact's own space, rotated where it is, so that a user vector of its towers scores them; counts (R, 2)
    float64, by each half-life of LiveItemsSettings, decayed up to counted_ms (R,).
    """

    item_ids: list[str]
    categories: list[str]
    inputs: Floats
    outputs: Floats
    counts: Doubles
    counted_ms: Ints


class Shown:
    """Reads a learner's tables as whoever is shown items does. Not to be made: `ItemLearner.shown` is.

    rotation (D, D): what turns the artifact's vectors, None where nothing does.
    """

    def __init__(
        self,
        tables: Tables,
        names: ItemNames,
        trained: Trained,
        rules: Rules,
        room: Room,
        *,
        min_readers: int,
        rotation: Floats | None,
    ) -> None:
        self._tables, self._names, self._trained = tables, names, trained
        self._rules, self._room = rules, room
        self._min_readers, self._rotation = min_readers, rotation

    def rows(self, rows: Ints) -> ShownItems:
        """Return what may be shown of rows (R,), as `changed_since` returns them."""
        items, trained, names = self._tables.items, self._trained, self._names
        inputs, outputs = items.inputs[rows], items.outputs[rows]
        own, few = items.trained[rows], items.readers[rows] < self._min_readers
        known, new = few & (own >= 0), few & (own < 0)
        inputs[known], outputs[known] = trained.inputs[own[known]], trained.outputs[own[known]]
        inputs[new], outputs[new] = self._starts(items, rows[new])
        if self._rotation is not None:
            outputs = outputs @ self._rotation
        ids = [names.ids[row] for row in rows.tolist()]
        categories = [names.categories[row] for row in rows.tolist()]
        return ShownItems(ids, categories, inputs, outputs, items.counts[rows], items.counted_ms[rows])

    def inputs(self, rows: Ints, items: Items | None = None) -> Floats:
        """Return the inputs (R, D) of rows that `has_inputs` names, as `rows` does."""
        items = self._tables.items if items is None else items
        inputs, own = items.inputs[rows], items.trained[rows]
        new = (own < 0) & (items.readers[rows] < self._min_readers)
        inputs[new], _ = self._starts(items, rows[new])
        return inputs

    def has_inputs(self, rows: Ints, items: Items | None = None) -> Flags:
        """Return of which rows (R,) inputs are shown: of new items, and of those with readers enough.

        Others enter as the model has them. -1, and what was another item in an earlier snapshot: of none.
        """
        now, items = self._tables.items, self._items(items)
        is_same = (rows >= 0) & (items.generation[rows] == now.generation[rows])
        found: Flags = is_same & ((items.trained[rows] < 0) | (items.readers[rows] >= self._min_readers))
        return found

    def user_vectors(self, user_ids: Sequence[str], items: Items | None = None) -> Floats:
        """Return the vectors (B, D) of users by the direct path over their last events' inputs.

        Unrotated; the last coordinate is 0; a user who is not held has the cold start's.
        """
        tables, items = self._tables, self._items(items)
        users, hashes = tables.users, tables.item_slots.hashes[: len(self._names.ids)]
        found = np.empty((len(user_ids), len(self._room.user)), np.float32)
        for place, bits in enumerate(hashes_of(texts_of(user_ids))):
            row = find(tables.user_slots, bits)
            until = min(int(users.had[row]), users.item.shape[1]) if row >= 0 else 0
            read = items, hashes, users, row, until, self._trained, self._rules.horizon_ms
            user_vector(*read, self._min_readers, self._room)
            found[place] = self._room.user
        return found

    def scores(self, user: Floats, items: Items | None = None) -> Floats:
        """Return each row's score (n,) for a user's vector (D,), unrotated, popularity aside.

        Minus infinity for a row that is free.
        """
        now, items = self._tables.items, self._items(items)
        found = np.empty(len(self._names.ids), np.float32)
        hashes = self._tables.item_slots.hashes[: len(found)]
        score_shown(items, hashes, self._trained, user, self._min_readers, self._room, found)
        found[(items.generation != now.generation)[: len(found)]] = -np.inf
        return found

    def _items(self, items: Items | None) -> Items:
        """Return the rows to read, as many as there are now."""
        now = self._tables.items
        return now if items is None else with_rows(items, len(now.category))

    def _starts(self, items: Items, rows: Ints) -> tuple[Floats, Floats]:
        """Return the input and output (R, D) with which the new items of rows (R,) began."""
        hashes = self._tables.item_slots.hashes[rows]
        return start_vectors(self._trained.starts, items.category[rows], hashes)
