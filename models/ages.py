"""The time since something as one of a few buckets, of which a model has a vector each."""

import numpy as np

from models.arrays import Ints

#: Ages are bucketed by their base-2 logarithm in seconds; bucket 0 is that of padding.
AGE_BUCKETS = 28


def age_buckets(age_ms: Ints) -> Ints:
    """Return the bucket, from 1, of each age; what is not yet, by clocks that differ, is of now."""
    logarithm = np.log2(np.maximum(age_ms // 1000, 0) + 1.0).astype(np.int64)
    return np.minimum(logarithm + 1, AGE_BUCKETS - 1)
