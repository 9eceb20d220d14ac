"""Drawing items that a target is compared with."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from models.arrays import Flags, Floats, Ints
from models.blocks import blocks_of
from models.ids.vocabulary_file import FIRST_KNOWN, PADDING
from models.towers.dual_towers import DualTowers

#: The most items that hard negatives are searched among, and users searched for at a time.
MINED_ITEMS, MINED_AT_ONCE = 20_000, 1_024


@dataclass(frozen=True, slots=True)
class Negatives:
    """What M targets are compared with: the same shared (N,) for all, and hard (M, K) of each target's own.

    Each row of `hard` is in ascending order; PADDING in it is no item.
    """

    shared: Tensor
    hard: Tensor

    def items(self) -> Tensor:
        """Return each target's negatives (M, N + K), PADDING where a shared one is among its hard ones."""
        shared = self.shared.expand(len(self.hard), -1)  # (M, N)
        if self.hard.shape[1]:
            shared = shared.masked_fill(self.are_hard(shared), PADDING)
        return torch.cat([shared, self.hard], dim=1)

    def are_hard(self, items: Tensor) -> Tensor:
        """Return (M, J): whether items (M, J) are hard negatives of their row."""
        if not self.hard.shape[1]:
            return torch.zeros_like(items, dtype=torch.bool)
        place = torch.searchsorted(self.hard, items.contiguous()).clamp(max=self.hard.shape[1] - 1)
        return self.hard.gather(1, place) == items


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
        drawn = torch.from_numpy(np.concatenate([flat, popular]).astype(np.int64) + FIRST_KNOWN)
        return drawn.to(self.probability.device)

    def to(self, device: torch.device) -> "NegativeSampler":
        """Return one that draws onto a device."""
        return replace(self, probability=self.probability.to(device), popularity=self.popularity.to(device))

    def log_expected(self, items: Tensor, targets: int = 0) -> Tensor:
        """Return the log of how often each of these items (...) is among a step's negatives on average.

        targets: how many targets of the step are negatives as well.
        """
        place = items - FIRST_KNOWN
        expected = self.count * self.probability[place] + targets * self.popularity[place]
        return expected.clamp(min=1e-9).log()


def negative_sampler(
    targets: Ints,
    weight: Floats | Flags,
    item_count: int,
    count: int,
    uniform_share: float,
    power: float = 1.0,
) -> NegativeSampler:
    """Return a sampler of `count` items per step over targets (E,), of which it draws known items alone.

    weight (E,): how often each target counts. power: 1 draws an item as often as it occurs, 0 all that occur
    alike; word2vec has 0.75.
    """
    frequency = np.zeros(FIRST_KNOWN + item_count)
    for some in blocks_of(len(targets)):
        np.add.at(frequency, targets[some], weight[some].astype(np.float64))
    frequency = frequency[FIRST_KNOWN:]
    popularity = frequency / (frequency.sum() or 1.0)
    drawn = np.where(frequency > 0, popularity**power, 0.0)
    drawn /= drawn.sum() or 1.0
    uniform = round(count * uniform_share) / count
    probability = uniform / item_count + (1 - uniform) * drawn
    cumulative = np.cumsum(drawn)
    cumulative[-1] = 1.0
    tensors = (torch.from_numpy(values.astype(np.float32)) for values in (probability, popularity))
    return NegativeSampler(count, uniform_share, cumulative, *tensors)


class HardNegatives:
    """Finds the items that score highest for a user, as the towers were at the last `refresh`.

    Where the towers know more than MINED_ITEMS items, so many are drawn at each refresh and searched. What
    is found depends only on the user, never on the target, so that every item's chance to be among it is 0
    or 1: that is what the correction of a sampled softmax needs to know.
    """

    def __init__(self, towers: DualTowers, count: int) -> None:
        """`count` is K, how many are found for each user at most."""
        self._items = towers.items
        self._known = towers.items.item.num_embeddings - FIRST_KNOWN
        self._pool = torch.zeros(0, dtype=torch.int64)
        self._vectors = torch.zeros(0, 0)
        self._count = min(count, self._known, MINED_ITEMS)

    @torch.no_grad()
    def refresh(self, random: np.random.Generator) -> None:
        """Take the items' vectors as they are now."""
        pool = random.choice(self._known, min(MINED_ITEMS, self._known), replace=False)
        self._pool = torch.from_numpy(pool).to(self._items.share.device) + FIRST_KNOWN  # (P,)
        self._vectors = self._items.outputs(self._pool).T.contiguous()  # (D, P)

    @torch.no_grad()
    def find(self, user: Tensor, left_out: Tensor) -> Tensor:
        """Return the items (M, K) that score highest for users (M, D), each row in ascending order.

        Items of left_out (M, L; item indices or PADDING) are not among those of their row. Rows with fewer
        than K items are filled with PADDING.
        """
        place = self._pool.new_full((self._known + FIRST_KNOWN,), len(self._pool))
        place[self._pool] = torch.arange(len(self._pool), device=place.device)
        found = []
        for begin in range(0, max(len(user), 1), MINED_AT_ONCE):
            some = slice(begin, begin + MINED_AT_ONCE)
            scores = functional.pad(user[some] @ self._vectors, (0, 1))  # (M, P + 1), the last of no item
            scores.scatter_(1, place[left_out[some]], -torch.inf)
            best, places = scores[:, :-1].topk(self._count)  # (M, K) each
            found.append(torch.where(best > -torch.inf, self._pool[places], PADDING))
        return torch.cat(found).sort(dim=1).values
