"""Users of about equal history lengths together, so that little of a padded tensor is padding."""

from collections.abc import Iterator

import numpy as np

from models.arrays import Ints

#: The narrowest bucket; each is twice as wide as the one before, so that less than half of a row is padding.
NARROWEST = 8


def buckets(counts: Ints) -> Iterator[Ints]:
    """Yield the users (indices) of each bucket of about equal counts (B,), the shortest first."""
    order = np.argsort(counts, kind="stable")
    widths = NARROWEST * 2 ** np.arange(32)
    ends = np.searchsorted(counts[order], widths, side="right")
    yield from (some for some in np.split(order, np.unique(ends)) if len(some))
