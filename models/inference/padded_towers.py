"""Events -> the towers' vectors on a CPU: the towers themselves, on padded tensors in length buckets."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from models.arrays import Floats
from models.length_buckets import buckets
from models.towers.dual_towers import DualTowers
from models.towers.features import forget_before, pad
from models.towers.histories import EventFeatures, Part
from models.towers.live_items import with_live_items
from models.windows.histories import Histories


class PaddedTowers:
    """Dual towers of any depth."""

    reads_live = True

    def __init__(self, towers: DualTowers) -> None:
        self._towers = towers

    def long_of(self, histories: Histories, derived: EventFeatures, part: Part) -> Floats:
        """Return the long vectors (B, D) of these parts."""
        return self._by_bucket(
            part, lambda some: self._towers.long_of(forget_before(pad(histories, derived, *some)))
        )

    def short_of(self, histories: Histories, derived: EventFeatures, part: Part) -> Floats:
        """Return the short vectors (B, D) of these parts, of live items where histories have some."""
        towers, events = with_live_items(self._towers, histories)
        return self._by_bucket(part, lambda some: towers.short_of(pad(events, derived, *some)))

    @torch.inference_mode()
    def _by_bucket(self, part: Part, run: Callable[[Part], Tensor]) -> Floats:
        vectors = np.empty((len(part.counts), self._towers.settings.dimension), np.float32)
        for users in buckets(part.counts):
            vectors[users] = run(part.take(users)).numpy()
        return vectors
