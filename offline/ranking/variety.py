"""How varied lists of recommended items are: coverage, diversity, novelty. Pure.

Letters: L lists, K items of each, I items that there are. An item is its place, from 0.
"""

import numpy as np
import numpy.typing as npt

from models.arrays import Doubles, Ints
from models.ids.vocabulary_file import FIRST_KNOWN

#: Items of a list.
TOP = 10


def best_places(scores: npt.NDArray[np.floating], k: int = TOP) -> Ints:
    """Return the k best items (L, K) of scores (L, I), in no order; fewer where there are fewer."""
    k = min(k, scores.shape[1])
    found: Ints = np.argpartition(-scores, k - 1, axis=1)[:, :k]
    return found


def coverage(lists: Ints, items: int) -> float:
    """Return the share of so many items that are in any of the lists (L, K)."""
    return len(np.unique(lists)) / items


def diversity(lists: Ints, categories: Ints) -> float:
    """Return the share of pairs of a list (L, K) that are of two categories (I,), the mean over lists.

    Items of an unknown category count as of one. NaN where a list has no pairs, or where there are no two
    categories: then nothing can be told. Source: intra-list diversity, Smyth and McClave 2001.
    """
    known = np.maximum(categories, FIRST_KNOWN - 1)
    count = lists.shape[1]
    if count < 2 or len(np.unique(known)) < 2:
        return float("nan")
    ordered = np.sort(known[lists], axis=1)
    same = np.zeros(len(lists))
    run = np.zeros(len(lists))  # how many of the same category stand right before
    for place in range(1, count):
        run = np.where(ordered[:, place] == ordered[:, place - 1], run + 1, 0)
        same += run
    return float(1 - same.mean() / (count * (count - 1) / 2))


def novelty(lists: Ints, counts: Doubles | Ints) -> float:
    """Return -log2 of the share of all events (I,) that an item of the lists (L, K) has: the mean, in bits.

    An item without events counts as one with one. NaN where there are no events at all. Source: Zhou et al.
    2010, "Solving the apparent diversity-accuracy dilemma of recommender systems".
    """
    total = counts.sum()
    if not total:
        return float("nan")
    return float(np.log2(total / np.maximum(counts[lists], 1)).mean())
