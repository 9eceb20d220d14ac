"""What items have become since a model was trained, as its short tower and direct path read them.

A snapshot of the item learner's input vectors (models/items/), found by the items' hashes. The long tower
reads items as they were trained, so that what is kept of it stays right.
"""

from dataclasses import dataclass

import numpy as np

from models.arrays import Floats, Ints, Words
from models.ids.hash_table import HashTable, make_hash_table
from models.quantised import Bytes8, quantised


@dataclass(frozen=True, slots=True)
class LiveInputs:
    """The input vectors of R items as they were at one moment; nothing in it changes.

    number: what this snapshot is called where it is stored with users; table: the row of an item by its hash;
    values (R, D) int8, times scale (R,) float32, the vectors; reach: how many of a user's newest events read
    them.
    """

    number: str
    table: HashTable
    values: Bytes8
    scale: Floats
    reach: int

    def vectors(self, rows: Ints) -> Floats:
        """Return the vectors (n, D) of rows (n,)."""
        found: Floats = self.values[rows].astype(np.float32) * self.scale[rows, None]
        return found


@dataclass(frozen=True, slots=True)
class LiveEvents:
    """Which of E events read live inputs: row (E,) of `inputs`, -1 where the item enters as trained."""

    inputs: LiveInputs
    row: Ints

    def item(self, trained: Ints, item_count: int) -> Ints:
        """Return the item indices (E,): item_count and on those of live rows, else those as trained (E,)."""
        return np.where(self.row >= 0, self.row + item_count, trained)

    def take(self, events: Ints | slice) -> "LiveEvents":
        """Return some of the events."""
        return LiveEvents(self.inputs, self.row[events])


def make_live_inputs(number: str, hashes: Words, vectors: Floats, reach: int) -> LiveInputs:
    """Return the inputs of items (R,), all different, of vectors (R, D), as whoever gets them by Redis."""
    values, scale = quantised(vectors)
    table = make_hash_table(hashes, np.arange(len(hashes)))
    return LiveInputs(number, table, values, scale, reach)


def newest_events(starts: Ints, reach: int) -> Ints:
    """Return the numbers of each user's newest events, `reach` of each at most; starts (B+1,)."""
    first = np.maximum(starts[1:] - reach, starts[:-1])
    counts = starts[1:] - first
    ends = np.cumsum(counts)
    return np.repeat(first - (ends - counts), counts) + np.arange(ends[-1] if len(ends) else 0)
