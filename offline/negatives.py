"""Drawing items that a target is compared with."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.vocabulary import FIRST_KNOWN


@dataclass(frozen=True, slots=True)
class NegativeSampler:
    """Draws known items, `uniform_share` of them uniformly, the rest as often as they occur, to a power.

    cumulative (I,) distribution by that popularity; probability (I,) of each known item in one draw of
    either kind, popularity (I,) its share of the targets.
    """

    count: int
    uniform_share: float
    cumulative: npt.NDArray[np.float64]
    probability: Tensor
    popularity: Tensor

    def draw(self, random: np.random.Generator) -> Tensor:
        """Return `count` item indices (N,), with replacement."""
        uniform = round(self.count * self.uniform_share)
        flat = random.integers(0, len(self.cumulative), uniform)
        popular = np.searchsorted(self.cumulative, random.random(self.count - uniform), side="right")
        return torch.from_numpy(np.concatenate([flat, popular]).astype(np.int64) + FIRST_KNOWN)

    def log_expected(self, items: Tensor, targets: int = 0) -> Tensor:
        """Return the log of how often each of these items (...) is among a step's negatives on average.

        targets: how many targets of the step are negatives as well.
        """
        place = items - FIRST_KNOWN
        expected = self.count * self.probability[place] + targets * self.popularity[place]
        return expected.clamp(min=1e-9).log()


def negative_sampler(
    targets: npt.NDArray[np.int64], item_count: int, count: int, uniform_share: float, power: float = 1.0
) -> NegativeSampler:
    """Return a sampler of `count` items per step over targets (E,), the indices of known items.

    power: 1 draws an item as often as it occurs, 0 all that occur alike; word2vec has 0.75.
    """
    frequency = np.bincount(targets - FIRST_KNOWN, minlength=item_count).astype(np.float64)
    popularity = frequency / max(frequency.sum(), 1.0)
    drawn = np.where(frequency > 0, np.maximum(frequency, 1) ** power, 0.0)
    drawn /= max(drawn.sum(), 1.0)
    uniform = round(count * uniform_share) / count
    probability = uniform / item_count + (1 - uniform) * drawn
    cumulative = np.cumsum(drawn)
    cumulative[-1] = 1.0
    tensors = (torch.from_numpy(values.astype(np.float32)) for values in (probability, popularity))
    return NegativeSampler(count, uniform_share, cumulative, *tensors)
