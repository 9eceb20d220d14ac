"""Raw ids -> indices for whole batches of ids, as a hash table that compiled loops can read."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from models.arrays import Ints, Words
from models.compiled import compiled
from models.ids.texts import Texts, texts_of

#: Eight bytes of text at once are hashed by a multiplication with 2**64 over the golden ratio; only its
#: highest bits depend on all bytes (Knuth, The Art of Computer Programming, volume 3, section 6.4).
GOLDEN = np.uint64(0x9E3779B97F4A7C15)
HALF, ONE, LAST_BIT = np.uint64(32), np.uint64(1), np.uint64(63)

#: What is behind a text that is read by words: the last read may begin before its end, and takes two.
READ_AHEAD = bytes(16)


class IdTable(NamedTuple):
    """N ids, the place of each in their list being its index; open addressing, at most half full.

    slots: a power of two of int32 indices, -1 where free; words, starts: the ids as in `Texts`.
    """

    slots: npt.NDArray[np.int32]
    words: Words
    starts: Ints

    def find(self, ids: Texts) -> Ints:
        """Return the index of each id, -1 where it is not in the table."""
        return self.find_at(_words_of(ids), ids.starts[:-1], ids.starts[1:])

    def find_at(self, words: Words, firsts: Ints, ends: Ints) -> Ints:
        """Return the index of each of N ids that stand from a byte of the words to another, -1 as above.

        firsts, ends (N,) are such bytes; `READ_AHEAD` follows the last of them.
        """
        found = np.empty(len(firsts), np.int64)
        _look_up(*self, words, firsts, ends, found, False)
        return found


def make_id_table(ids: Sequence[str]) -> IdTable:
    """Return the table of these ids; ValueError where one is listed twice."""
    texts = texts_of(ids)
    slots = np.full(1 << max(2 * len(ids) - 1, 1).bit_length(), -1, np.int32)
    table = IdTable(slots, _words_of(texts), texts.starts)
    before = np.empty(len(ids), np.int64)
    _look_up(*table, table.words, texts.starts[:-1], texts.starts[1:], before, True)
    if len(twice := np.flatnonzero(before >= 0)):
        raise ValueError(f"the id {ids[twice[0]]!r} is listed twice")
    return table


def _words_of(texts: Texts) -> Words:
    content = texts.text.tobytes() + READ_AHEAD
    return np.frombuffer(content[: len(content) // 8 * 8], np.uint64)


# One loop in one function: for every array that a compiled function gets, each call counts references, which
# would take several times as long as a look-up.
@compiled
def _look_up(
    slots: npt.NDArray[np.int32],
    ids: Words,
    starts: Ints,
    words: Words,
    firsts: Ints,
    ends: Ints,
    found: Ints,
    is_filling: bool,
) -> None:
    """Write the index of every id, -1 where there is none; `is_filling` has it in the table from then on."""
    for each in range(len(found)):
        first, end = firsts[each], ends[each]
        value = np.uint64(end - first)
        for place in range(first, end, 8):
            word = _word(words[place >> 3], words[(place >> 3) + 1], place, end)
            value = (value ^ (value >> HALF) ^ word) * GOLDEN
        slot = np.int64(((value >> HALF) * np.uint64(len(slots))) >> HALF)
        while slots[slot] >= 0:
            at, at_end, place = starts[slots[slot]], starts[slots[slot] + 1], first
            while at < at_end and at_end - at == end - place:
                known = _word(ids[at >> 3], ids[(at >> 3) + 1], at, at_end)
                if known != _word(words[place >> 3], words[(place >> 3) + 1], place, end):
                    break
                at, place = at + 8, place + 8
            if at >= at_end and place >= end:
                break
            slot = (slot + 1) & (len(slots) - 1)
        found[each] = slots[slot]
        if is_filling and slots[slot] < 0:
            slots[slot] = each


@compiled
def _word(low: np.uint64, high: np.uint64, first: int, end: int) -> np.uint64:
    """Return the bytes from `first` on as a number: eight, or as many as there are before `end`.

    `low` is the word with the first of them, `high` the next.
    """
    shift = np.uint64(8 * (first & 7))
    unwanted = np.uint64(max(64 - 8 * (end - first), 0))
    return (((low >> shift) | ((high << ONE) << (LAST_BIT - shift))) << unwanted) >> unwanted
