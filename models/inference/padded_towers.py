"""Events -> the towers' vectors on a CPU: the towers themselves, on padded tensors in length buckets."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from models.arrays import Ints
from models.towers.dual_towers import DualTowers
from models.towers.features import forget_before, pad
from models.towers.histories import EventFeatures, Part
from models.windows.histories import Histories

#: The narrowest bucket; each is twice as wide as the one before, so that less than half of a row is padding.
NARROWEST = 8


class PaddedTowers:
    """Dual towers of any depth."""

    def __init__(self, towers: DualTowers) -> None:
        self._towers = towers

    def long_of(self, histories: Histories, derived: EventFeatures, part: Part) -> Tensor:
        """Return the long vectors (B, D) of these parts."""
        return self._by_bucket(
            part, lambda some: self._towers.long_of(forget_before(pad(histories, derived, *some)))
        )

    def short_of(self, histories: Histories, derived: EventFeatures, part: Part) -> Tensor:
        """Return the short vectors (B, D) of these parts."""
        return self._by_bucket(part, lambda some: self._towers.short_of(pad(histories, derived, *some)))

    def _by_bucket(self, part: Part, run: Callable[[Part], Tensor]) -> Tensor:
        vectors = torch.empty(len(part.counts), self._towers.settings.dimension)
        for users in buckets(part.counts):
            vectors[torch.from_numpy(users)] = run(part.take(users))
        return vectors


def buckets(counts: Ints) -> Iterator[Ints]:
    """Yield the users (indices) of each bucket of about equal counts (B,), the shortest first."""
    order = np.argsort(counts, kind="stable")
    widths = NARROWEST * 2 ** np.arange(32)
    ends = np.searchsorted(counts[order], widths, side="right")
    yield from (some for some in np.split(order, np.unique(ends)) if len(some))
