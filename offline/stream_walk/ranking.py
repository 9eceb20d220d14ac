"""The rank of a target among the items that exist, for many ways to weigh popularity at once."""

import numpy as np

from models.arrays import Doubles, Flags, Ints
from models.compiled import compiled
from offline.ranking.metrics import MISSING as MISSING


def rank(scores: Doubles, is_ranked: Flags, target: int) -> int:
    """Return the rank of a target among the items that are ranked (C,), ties against it, or MISSING."""
    if not is_ranked[target] or scores[target] == -np.inf:
        return MISSING
    ranked = scores[is_ranked]
    return len(ranked) - int((ranked < scores[target]).sum())


@compiled
def weighed_ranks(
    base: Doubles, logs: Doubles, is_ranked: Flags, target: int, ways: Doubles, found: Ints
) -> None:
    """Write the rank of the target by base (C,) + weighed logs (C, H), for each of W ways.

    ways (W, 4): a column of logs and its weight, twice; found (W,).
    """
    for way in range(len(ways)):
        if not is_ranked[target] or base[target] == -np.inf:
            found[way] = MISSING
            continue
        one, other = int(ways[way, 0]), int(ways[way, 2])
        first, second = ways[way, 1], ways[way, 3]
        own, better = base[target] + first * logs[target, one] + second * logs[target, other], 0
        for item in range(len(base)):
            score = base[item] + first * logs[item, one] + second * logs[item, other]
            if is_ranked[item] and not score < own:  # nor where either is NaN
                better += 1
        found[way] = better
