"""Which user had which item in which hour, of the last so many: whoever clicks on and on counts once."""

from typing import NamedTuple

import numpy as np

from models.arrays import Ints, Words
from models.compiled import compiled
from models.ids.hashes import mixed

#: The numbers in `Pairs.numbers`.
CURRENT, COUNT = 0, 1
_NOTHING = np.uint64(0)


class Pairs(NamedTuple):
    """Two sets of 64 bits, (2, a power of two), 0 where free; the older is emptied when the newer is full.

    numbers (2,): which is the newer, and how many are in it.
    """

    sets: Words
    numbers: Ints


def make_pairs(remembered: int) -> Pairs:
    """Return sets that remember at least the last so many."""
    places = 1 << max(2 * remembered - 1, 2).bit_length()
    return Pairs(np.zeros((2, places), np.uint64), np.zeros(2, np.int64))


def members(pairs: Pairs) -> tuple[Words, Words]:
    """Return what is in the newer set, and what is in the older, in no order that means anything."""
    newer = pairs.numbers[CURRENT]
    return pairs.sets[newer][pairs.sets[newer] > 0], pairs.sets[1 - newer][pairs.sets[1 - newer] > 0]


@compiled
def remember_all(pairs: Pairs, newer: Words, older: Words) -> None:
    """Have two empty sets hold what `members` returned."""
    current = pairs.numbers[CURRENT]
    for bits in newer:
        _add(pairs.sets[current], bits)
    for bits in older:
        _add(pairs.sets[1 - current], bits)
    pairs.numbers[COUNT] = len(newer)


@compiled
def is_first(pairs: Pairs, user: np.uint64, item: np.uint64, hour: int) -> bool:
    """Return whether this user is not known to have had this item in this hour, and remember it."""
    bits = mixed(user ^ mixed(item + np.uint64(hour)))
    bits = bits if bits else np.uint64(1)
    current = pairs.numbers[CURRENT]
    if _has(pairs.sets[1 - current], bits) or not _add(pairs.sets[current], bits):
        return False
    pairs.numbers[COUNT] += 1
    if 2 * pairs.numbers[COUNT] >= pairs.sets.shape[1]:
        pairs.numbers[CURRENT], pairs.numbers[COUNT] = 1 - current, 0
        pairs.sets[1 - current] = _NOTHING
    return True


@compiled
def _has(places: Words, bits: np.uint64) -> bool:
    return bool(places[_place(places, bits)] == bits)


@compiled
def _add(places: Words, bits: np.uint64) -> bool:
    """Add bits; return whether they were not there."""
    place = _place(places, bits)
    if places[place] == bits:
        return False
    places[place] = bits
    return True


@compiled
def _place(places: Words, bits: np.uint64) -> int:
    """Return where these bits are, or the free place where they belong."""
    mask = len(places) - 1
    place = np.int64(bits & np.uint64(mask))
    while places[place] != _NOTHING and places[place] != bits:
        place = (place + 1) & mask
    return int(place)
