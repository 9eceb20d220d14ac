"""Vectors as int8, as live items travel, and compressed models keep their tables."""

import numpy as np
import numpy.typing as npt

from models.arrays import Floats

Bytes8 = npt.NDArray[np.int8]


def quantised(vectors: Floats) -> tuple[Bytes8, Floats]:
    """Return vectors (n, D) as int8, and the scale (n,) of each: a coordinate is the byte times the scale."""
    scale = np.maximum(np.abs(vectors).max(axis=1, initial=0.0), 1e-12).astype(np.float32) / np.float32(127)
    return np.round(vectors / scale[:, None]).astype(np.int8), scale


def dequantised(values: Bytes8, scale: Floats) -> Floats:
    """Return the vectors (n, D) that bytes (n, D) with these scales (n,) stand for."""
    found: Floats = values.astype(np.float32) * scale[:, None]
    return found
