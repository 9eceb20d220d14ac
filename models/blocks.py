"""Long arrays a block at a time, so that what is computed in between stays small; and small numbers."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from models.arrays import Ints

#: Values of a block.
BLOCK = 1 << 21


def blocks_of(count: int) -> Iterator[slice]:
    """Yield the slices of an array of so many values, a block each."""
    for begin in range(0, count, BLOCK):
        yield slice(begin, min(begin + BLOCK, count))


def groups_of(starts: Ints) -> Iterator[slice]:
    """Yield slices of B groups that have a block of values together; starts (B+1,) as in `Histories`."""
    begin, count = 0, len(starts) - 1
    while begin < count:
        end = max(int(np.searchsorted(starts, starts[begin] + BLOCK, side="right")) - 1, begin + 1)
        yield slice(begin, end)
        begin = end


def smallest_integer(highest: int) -> np.dtype[Any]:
    """Return the smallest signed integer that holds numbers from 0 to this one."""
    return next(np.dtype(f"i{size}") for size in (1, 2, 4, 8) if highest < 2 ** (8 * size - 1))
