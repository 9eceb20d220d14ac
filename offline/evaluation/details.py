"""More than the mean of a ranking: confidence, kinds of users and of items, AUC and variety."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from models.arrays import Doubles, Ints
from models.ids.vocabulary import Vocabulary
from models.ids.vocabulary_file import FIRST_KNOWN
from offline.baselines.counting import popularity
from offline.ranking.metrics import MISSING, Ranks, gains_in_ten, ranks
from offline.ranking.protocols import Cases
from offline.ranking.scorers import Scorer, scores_by
from offline.ranking.variety import best_places, coverage, diversity, novelty

#: Items, drawn at random, that the AUC over all users compares targets with; resamplings of the bootstrap;
#: the seed of both.
AUC_ITEMS, RESAMPLINGS, DETAILS_SEED = 200, 1_000, 0
#: Users, and targets, are divided into this many groups of the same size, as far as ties allow.
GROUPS = 3


@dataclass(frozen=True, slots=True)
class Details:
    """More on how B targets were ranked.

    interval: the 95 % bootstrap interval of NDCG@10 over users. user_auc: how likely a target scores above
    another item that is ranked for the same user; pooled_auc: above one of any user. Unknown targets count 0.
    coverage: share of the items that are among anyone's ten best; categories: how many different ones a
    user's ten best have; diversity, novelty: see offline/ranking/variety.py. by_activity, by_popularity (3,):
    NDCG@10 of users with few to many events, and of targets from rare to popular.
    """

    interval: tuple[float, float]
    user_auc: float
    pooled_auc: float
    coverage: float
    categories: float
    diversity: float
    novelty: float
    by_activity: tuple[float, ...]
    by_popularity: tuple[float, ...]


def details(score: Scorer, cases: Cases, vocabulary: Vocabulary, *, exclude_seen: bool) -> Details:
    """Return the details of one scorer's ranking of all items for every case."""
    random = np.random.default_rng(DETAILS_SEED)
    item_count = len(vocabulary.item_ids)
    compared = random.permutation(item_count)[:AUC_ITEMS]
    found: list[Ranks] = []
    own, others, user_auc, best = [], [], [], []
    for users, scores in scores_by(score, cases, exclude_seen):
        target = cases.target[users]
        rank = ranks(scores, target)
        found.append(rank)
        user_auc.append(_user_auc(rank, (scores > -np.inf).sum(axis=1)))
        own.append(np.where(target >= 0, scores[np.arange(len(users)), target], -np.inf))
        others.append(np.where(compared == target[:, None], -np.inf, scores[:, compared]))
        best.append(best_places(scores))
    gains = gains_in_ten(np.concatenate(found))
    counts, lists = popularity(cases.known, vocabulary), np.concatenate(best)
    return Details(
        interval=bootstrap_interval(gains, random),
        user_auc=float(np.concatenate(user_auc).mean()),
        pooled_auc=_pooled_auc(np.concatenate(own), np.concatenate(others).ravel()),
        coverage=coverage(lists, item_count),
        categories=float(_different(vocabulary.item_categories[lists]).mean()),
        diversity=diversity(lists, vocabulary.item_categories),
        novelty=novelty(lists, np.ceil(counts)),  # without what parts ties
        by_activity=by_group(gains, np.diff(cases.histories.starts)),
        by_popularity=by_group(gains, np.where(cases.target >= 0, counts[cases.target], 0)),
    )


def bootstrap_interval(gains: Doubles, random: np.random.Generator) -> tuple[float, float]:
    """Return the 95 % interval of the mean of gains (B,) when users are drawn anew, with replacement."""
    drawn = (gains[random.integers(0, len(gains), len(gains))].mean() for _ in range(RESAMPLINGS))
    low, high = np.quantile(np.fromiter(drawn, np.float64, RESAMPLINGS), (0.025, 0.975))
    return float(low), float(high)


def by_group(gains: Doubles, amount: npt.NDArray[Any]) -> tuple[float, ...]:
    """Return the mean gain of each third of the cases (B,), those with the least first; equal ones together.

    nan for a third that ties leave empty.
    """
    edges = np.quantile(amount, np.arange(1, GROUPS) / GROUPS, method="lower")
    group = np.searchsorted(edges, amount, side="left")
    members = [gains[group == number] for number in range(GROUPS)]
    return tuple(float(part.mean()) if len(part) else float("nan") for part in members)


def _user_auc(rank: Ranks, ranked: Ints) -> Doubles:
    """Return, for each target (B,), the share of the other ranked items that rank below it, 0 for MISSING."""
    before = (ranked - np.minimum(rank, ranked)) / np.maximum(ranked - 1, 1)
    share: Doubles = np.where(rank == MISSING, 0.0, before)
    return share


def _pooled_auc(own: Doubles, others: Doubles) -> float:
    """Return how likely a target's score is above another item's for any user; equal scores count half."""
    others = np.sort(others[others > -np.inf])
    if not len(others):
        return float("nan")
    below = np.searchsorted(others, own, side="left") + np.searchsorted(others, own, side="right")
    return float(below.mean() / (2 * len(others)))


def _different(categories: Ints) -> Ints:
    """Return how many different values each row (B, K) has; unknown categories count as one."""
    ordered = np.sort(np.maximum(categories, FIRST_KNOWN - 1), axis=1)
    changes: Ints = (np.diff(ordered, axis=1) > 0).sum(axis=1)
    return changes + 1
