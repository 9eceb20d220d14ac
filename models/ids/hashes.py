"""Ids as 64 bits each, for tables that grow: two ids with the same bits are taken for one."""

import numpy as np

from models.arrays import Ints, Words
from models.compiled import compiled
from models.ids.id_table import GOLDEN, READ_AHEAD
from models.ids.texts import Texts

_EIGHT = np.uint64(8)


def hashes_of(ids: Texts) -> Words:
    """Return the hash of each id (N,); among a million ids, two are alike with a chance of 3e-8."""
    content = ids.text.tobytes() + READ_AHEAD
    words = np.frombuffer(content[: len(content) // 8 * 8], np.uint64)
    return hashes_at(words, ids.starts[:-1], ids.starts[1:])


def hashes_at(words: Words, firsts: Ints, ends: Ints) -> Words:
    """Return the hash of each of N ids that stand from a byte of the words to another, as `hashes_of`.

    firsts, ends (N,) are such bytes; `READ_AHEAD` follows the last of them.
    """
    found = np.empty(len(firsts), np.uint64)
    _hash(words, firsts, ends, found)
    return found


@compiled
def mixed(bits: np.uint64) -> np.uint64:
    """Return 64 bits of which each depends on all of these; no two give the same.

    The finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
    """
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


@compiled
def _hash(words: Words, firsts: Ints, ends: Ints, found: Words) -> None:
    for each in range(len(found)):
        first, end = firsts[each], ends[each]
        value = np.uint64(end - first) * GOLDEN
        for place in range(first, end, 8):
            at, shift = place >> 3, np.uint64(8 * (place & 7))
            word = words[at] >> shift
            if shift:
                word |= words[at + 1] << (np.uint64(64) - shift)
            if end - place < 8:
                word &= (np.uint64(1) << (_EIGHT * np.uint64(end - place))) - np.uint64(1)
            value = mixed(value ^ word) * GOLDEN
        found[each] = mixed(value)
