"""Raw ids -> indices for whole batches of ids, as a hash table that compiled loops can read."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from models.texts import Texts, texts_of

#: FNV-1a, 64 bits (http://www.isthe.com/chongo/tech/comp/fnv).
FNV_BASIS, FNV_PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)
HALF = np.uint64(32)

Indices = npt.NDArray[np.int64]


class IdTable(NamedTuple):
    """N ids, the place of each in their list being its index; open addressing, at most half full.

    slots: a power of two of int32 indices, -1 where free; text, starts: the ids as in `Texts`.
    """

    slots: npt.NDArray[np.int32]
    text: npt.NDArray[np.uint8]
    starts: npt.NDArray[np.int64]

    def find(self, ids: Texts) -> Indices:
        """Return the index of each id, -1 where it is not in the table."""
        found = np.empty(len(ids), np.int64)
        _find_all(*self, ids.text, ids.starts, found)
        return found


def make_id_table(ids: Sequence[str]) -> IdTable:
    """Return the table of these ids; ValueError where one is listed twice."""
    texts = texts_of(ids)
    slots = np.full(1 << max(2 * len(ids) - 1, 1).bit_length(), -1, np.int32)
    table = IdTable(slots, texts.text, texts.starts)
    twice = _fill(*table)
    if twice >= 0:
        raise ValueError(f"the id {ids[twice]!r} is listed twice")
    return table


@njit(cache=True, nogil=True)
def _slot_of(slots, ids, starts, text, first, last):  # type: ignore[no-untyped-def]
    """Return the slot that holds the id text[first:last], or the free one that it would take."""
    value = FNV_BASIS
    for place in range(first, last):
        value = (value ^ np.uint64(text[place])) * FNV_PRIME
    mask = len(slots) - 1
    slot = np.int64((value ^ (value >> HALF)) & np.uint64(mask))
    while slots[slot] >= 0:
        start = starts[slots[slot]]
        place = 0
        if starts[slots[slot] + 1] - start == last - first:
            while place < last - first and ids[start + place] == text[first + place]:
                place += 1
            if place == last - first:
                break
        slot = (slot + 1) & mask
    return slot


@njit(cache=True, nogil=True)
def find(slots, ids, starts, text, first, last):  # type: ignore[no-untyped-def]
    """Return the index of the id text[first:last] in the IdTable of the first three, -1 where it has none."""
    return np.int64(slots[_slot_of(slots, ids, starts, text, first, last)])


@njit(cache=True, nogil=True)
def _find_all(slots, ids, starts, text, text_starts, found):  # type: ignore[no-untyped-def]
    for place in range(len(found)):
        found[place] = find(slots, ids, starts, text, text_starts[place], text_starts[place + 1])


@njit(cache=True, nogil=True)
def _fill(slots, ids, starts):  # type: ignore[no-untyped-def]
    """Put every id into its slot; return the first that is there already, -1 where none is."""
    for index in range(len(starts) - 1):
        slot = _slot_of(slots, ids, starts, ids, starts[index], starts[index + 1])
        if slots[slot] >= 0:
            return index
        slots[slot] = index
    return -1
