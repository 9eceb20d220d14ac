"""Chance that a seed decides: the same for a row wherever it is read, in however many parts."""

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

#: Constants of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_FACTORS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_SHIFTS = (np.uint64(30), np.uint64(27), np.uint64(31))


class Draw(IntEnum):
    """What is decided; each has numbers of its own."""

    SPREAD = 0
    DELAY_KIND = 1
    DELAY = 2
    DUPLICATE = 3
    DUPLICATE_DELAY = 4
    MALFORMED = 5
    MALFORMED_KIND = 6
    HOT_USER = 7


class Chance:
    """Numbers from 0 to under 1, of a seed."""

    def __init__(self, seed: int) -> None:
        self._seed = _mixed(np.array([seed], dtype=np.uint64))

    def of(self, draw: Draw, positions: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the number (R,) that decides this about the rows at these positions (R,)."""
        state = _mixed(self._seed ^ np.array([draw + 1], dtype=np.uint64))
        bits = _mixed(state + _GAMMA * positions.astype(np.uint64))
        numbers: NDArray[np.float64] = (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
        return numbers


def _mixed(bits: NDArray[np.uint64]) -> NDArray[np.uint64]:
    bits = bits + _GAMMA
    bits = (bits ^ (bits >> _SHIFTS[0])) * _FACTORS[0]
    bits = (bits ^ (bits >> _SHIFTS[1])) * _FACTORS[1]
    return bits ^ (bits >> _SHIFTS[2])
