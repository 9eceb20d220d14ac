"""An artifact's item vectors as its file has them: float32, or bytes with scales; needs no torch."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from models.arrays import Floats
from models.quantised import dequantised, quantised

#: Rows of bytes that are scored at a time, so that the table is nowhere in memory as vectors.
ROWS_AT_ONCE = 8_192

#: The vectors (I, D), the scale (I,) of each where they are bytes, and their last coordinate (I,) where it is
#: kept as it was: it holds the popularity, beside which all others would round to nothing.
VECTORS, SCALE, LAST = "item_vectors", "item_vectors.scale", "item_vectors.last"


class ItemTable:
    """Vectors that are float32 stay mapped into memory; bytes become vectors anew each time they are read."""

    def __init__(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Raises KeyError and ValueError where they are not there, or not of one form."""
        self._vectors, self._scale, self._last = arrays[VECTORS], arrays.get(SCALE), arrays.get(LAST)
        is_whole = self._scale is None
        if self._vectors.dtype != (np.float32 if is_whole else np.int8):
            raise ValueError(f"{VECTORS} is of the type {self._vectors.dtype}")
        for name, each in ((SCALE, self._scale), (LAST, self._last)):
            if each is not None and (each.shape != self._vectors.shape[:1] or each.dtype != np.float32):
                raise ValueError(f"{name} is {each.dtype} {each.shape}, of {len(self._vectors)} vectors")

    @property
    def dimension(self) -> int:
        """The length of a vector."""
        return int(self._vectors.shape[1])

    def read(self) -> Floats:
        """Return the vectors (I, D)."""
        if self._scale is None:
            return self._vectors
        found = dequantised(self._vectors, self._scale)
        if self._last is not None:
            found[:, -1] = self._last
        return found

    def scores(self, vector: Floats) -> Floats:
        """Return the dot product (I,) of each vector with this one (D,), without making any of them."""
        if self._scale is None:
            return self._vectors @ vector
        by_bytes = vector.astype(np.float32)
        if self._last is not None:
            by_bytes[-1] = 0
        found = np.empty(len(self._vectors), np.float32)
        for begin in range(0, len(found), ROWS_AT_ONCE):
            rows = slice(begin, begin + ROWS_AT_ONCE)
            found[rows] = self._vectors[rows].astype(np.float32) @ by_bytes
        found *= self._scale
        if self._last is not None:
            found += self._last * vector[-1]
        return found


def as_bytes(vectors: Floats, keeps_last: bool) -> dict[str, npt.NDArray[Any]]:
    """Return vectors (I, D) as bytes, as a file has them; keeps_last: their last coordinate as it is."""
    own = vectors.copy()
    if keeps_last:
        own[:, -1] = 0
    values, scale = quantised(own)
    found: dict[str, npt.NDArray[Any]] = {VECTORS: values, SCALE: scale}
    return {**found, LAST: np.ascontiguousarray(vectors[:, -1])} if keeps_last else found
