"""Drawing items that a target is compared with."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.vocabulary import FIRST_KNOWN


@dataclass(frozen=True, slots=True)
class NegativeSampler:
    """Draws known items, `uniform_share` of them uniformly, the rest as often as they occur.

    cumulative (I,) distribution by popularity; log_probability (I,) of one draw of each known item.
    """

    count: int
    uniform_share: float
    cumulative: npt.NDArray[np.float64]
    log_probability: Tensor

    def draw(self, random: np.random.Generator) -> Tensor:
        """Return `count` item indices (N,), with replacement."""
        uniform = round(self.count * self.uniform_share)
        flat = random.integers(0, len(self.cumulative), uniform)
        popular = np.searchsorted(self.cumulative, random.random(self.count - uniform), side="right")
        return torch.from_numpy(np.concatenate([flat, popular]).astype(np.int64) + FIRST_KNOWN)

    def log_expected(self, items: Tensor) -> Tensor:
        """Return the log of how often each of these items (...) is drawn per step on average."""
        return self.log_probability[items - FIRST_KNOWN] + float(np.log(self.count))


def negative_sampler(
    targets: npt.NDArray[np.int64], item_count: int, count: int, uniform_share: float
) -> NegativeSampler:
    """Return a sampler of `count` items per step over targets (E,), the indices of known items."""
    frequency = np.bincount(targets - FIRST_KNOWN, minlength=item_count).astype(np.float64)
    popularity = frequency / max(frequency.sum(), 1.0)
    uniform = round(count * uniform_share) / count
    probability = uniform / item_count + (1 - uniform) * popularity
    cumulative = np.cumsum(popularity)
    cumulative[-1] = 1.0
    log_probability = np.log(np.maximum(probability, 1e-12)).astype(np.float32)
    return NegativeSampler(count, uniform_share, cumulative, torch.from_numpy(log_probability))
