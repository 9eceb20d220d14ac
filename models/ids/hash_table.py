"""Hashes of ids -> rows, as a table that is made once and never changes."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from models.arrays import Ints, Words
from models.compiled import compiled


class HashTable(NamedTuple):
    """N hashes, the place of each being its row; open addressing, at most half full.

    slots: a power of two of int32 rows, -1 where free; hashes (N,).
    """

    slots: npt.NDArray[np.int32]
    hashes: Words

    def find(self, hashes: Words) -> Ints:
        """Return the row of each hash (n,), -1 where it has none."""
        found = np.empty(len(hashes), np.int64)
        _find(self.slots, self.hashes, hashes, found)
        return found


def make_hash_table(hashes: Words, rows: Ints) -> HashTable:
    """Return the table of some rows of hashes (N,), which must be different; the others are not found."""
    slots = np.full(1 << max(2 * len(hashes) - 1, 1).bit_length(), -1, np.int32)
    _fill(slots, hashes, rows)
    return HashTable(slots, hashes)


@compiled
def _fill(slots: npt.NDArray[np.int32], hashes: Words, rows: Ints) -> None:
    mask = len(slots) - 1
    for row in rows:
        slot = np.int64(hashes[row] & np.uint64(mask))
        while slots[slot] >= 0:
            slot = (slot + 1) & mask
        slots[slot] = row


@compiled
def _find(slots: npt.NDArray[np.int32], known: Words, hashes: Words, found: Ints) -> None:
    mask = len(slots) - 1
    for each in range(len(hashes)):
        slot = np.int64(hashes[each] & np.uint64(mask))
        while slots[slot] >= 0 and known[slots[slot]] != hashes[each]:
            slot = (slot + 1) & mask
        found[each] = slots[slot]
