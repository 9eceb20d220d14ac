"""Vectors as towers make them: around clusters, of few directions and different lengths."""

import numpy as np

from models.inference.inference import Floats


def clustered_vectors(random: np.random.Generator, centres: Floats, dimension: int, count: int) -> Floats:
    """Return vectors (count, D) around centres (C, d), which lie in d of the D directions."""
    basis = np.linalg.qr(np.random.default_rng(3).normal(size=(dimension, dimension)))[0][: centres.shape[1]]
    places = centres[random.integers(0, len(centres), count)] + 0.5 * random.normal(
        size=(count, centres.shape[1])
    )
    lengths = np.exp(0.3 * random.normal(size=(count, 1)))
    return np.asarray(places @ basis * lengths, dtype=np.float32)
