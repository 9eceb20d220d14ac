"""What an item is scored by, weighed by held-out rows: its learned difference, and its popularity.

The loss makes targets likely, which is not yet to rank them well. Where users mostly return to what they had,
little that is learned beyond that, and little of the popularity, ranks better than all of it.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from models.towers.dual_towers import DualTowers
from offline.ranking.metrics import Ranks, gains
from offline.training.data import Stretches
from offline.training.held_out import ONE_PROCESS, asked_users, ranks_of
from offline.training.parallel import Processes

#: What is tried, one after the other, for as long as it ranks better: powers of 2, so that to multiply and to
#: divide again changes no bit. Never 0: what goes on learning must find again what it had learned.
SHARES = (0.5, 0.25, 0.125)


@dataclass(frozen=True, slots=True)
class ItemWeights:
    """By what is multiplied what was learned of items: their differences, and what popularity weighs."""

    difference: float = 1.0
    popularity: float = 1.0

    def over(self, other: "ItemWeights") -> "ItemWeights":
        """Return by what to multiply what has the other weights, so that it has these."""
        return ItemWeights(self.difference / other.difference, self.popularity / other.popularity)


def weigh(towers: DualTowers, weights: ItemWeights) -> None:
    """Multiply what towers have learned of items, in place."""
    items = towers.items
    parts: list[tuple[Tensor, float]] = [
        (items.item_difference.weight, weights.difference),
        (items.category_difference.weight, weights.difference),
        (items.popularity_weight, weights.popularity),
        (items.popularity, weights.popularity),
    ]
    with torch.no_grad():
        for part, share in parts:
            part.mul_(share)


def find_weights(
    towers: DualTowers, validation: Stretches, processes: Processes = ONE_PROCESS
) -> tuple[ItemWeights, Ranks]:
    """Return the weights by which towers rank these stretches best, and the ranks by them.

    A smaller weight is taken where NDCG is higher by more than its standard error, target by target. The
    towers stay as they are.
    """
    asked = asked_users(towers, validation, processes=processes)

    def ranks_with(weights: ItemWeights) -> Ranks:
        weigh(towers, weights)
        found = ranks_of(towers, asked, processes)
        weigh(towers, ItemWeights().over(weights))
        return found

    weights = ItemWeights()
    best = ranks_with(weights)
    for name in [field.name for field in fields(ItemWeights)] * 2:  # one may spoil what the other gains
        tried, found = _lowered(weights, name, best, ranks_with)
        gained = gains(found) - gains(best)
        if gained.mean() > gained.std() / np.sqrt(len(gained)):
            weights, best = tried, found
    return weights, best


def _lowered(
    weights: ItemWeights, name: str, ranks: Ranks, ranks_with: Callable[[ItemWeights], Ranks]
) -> tuple[ItemWeights, Ranks]:
    """Return how far a weight can be lowered before NDCG falls, from where the ranks are these."""
    for share in (each for each in SHARES if each < getattr(weights, name)):
        lower = replace(weights, **{name: share})
        found = ranks_with(lower)
        if gains(found).mean() < gains(ranks).mean():
            break
        weights, ranks = lower, found
    return weights, ranks
