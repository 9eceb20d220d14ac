"""Matrices stored without their zeros: a bit for each value, and what is not zero; needs no torch."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
#: Stand behind a matrix's name: bits (R, C / 8), which values are kept, and these (n,).
KEPT, VALUES = ".kept", ".values"


def without_zeros(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Return arrays by name, each matrix that takes fewer bytes without its zeros as KEPT and VALUES.

    That is one with more than an eighth of zeros in float32, and never one whose rows are no whole bytes.
    """
    found: dict[str, Array] = {}
    for name, array in arrays.items():
        kept = array != 0
        bits_and_values = array.size // 8 + int(kept.sum()) * array.itemsize
        if array.ndim != 2 or array.shape[1] % 8 or bits_and_values >= array.nbytes:
            found[name] = array
            continue
        found[name + KEPT] = np.packbits(kept, axis=1)
        found[name + VALUES] = np.ascontiguousarray(array[kept])
    return found


def with_zeros(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Return what `without_zeros` was given. Raises ValueError where bits and values do not fit together."""
    found = {name: array for name, array in arrays.items() if not name.endswith((KEPT, VALUES))}
    for name in [each.removesuffix(KEPT) for each in arrays if each.endswith(KEPT)]:
        bits, values = arrays[name + KEPT], arrays.get(name + VALUES)
        if bits.dtype != np.uint8 or bits.ndim != 2:
            raise ValueError(f"{name}{KEPT} is {bits.dtype} {bits.shape}, and no rows of bits")
        kept = np.unpackbits(bits, axis=1).view(np.bool_)
        count = int(kept.sum())
        if values is None or values.shape != (count,):
            shape = "missing" if values is None else values.shape
            raise ValueError(f"{name}{VALUES} is {shape}, and {count} bits are set")
        found[name] = np.zeros(kept.shape, values.dtype)
        found[name][kept] = values
    return found
