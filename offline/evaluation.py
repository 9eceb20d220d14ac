"""Ranks and metrics of an artifact and of the baselines on the same cases."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from models.artifact import Artifact
from offline.baselines import baselines
from offline.metrics import Ranking, Ranks, ranks, summarise
from offline.protocols import Cases, without_repeats

#: Scores that are held at a time.
SCORES_AT_ONCE = 2_000_000

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How the model ("twintide") and the baselines rank, over `users` users.

    repeats: how many users were left out because their next item was one they had before.
    """

    users: int
    unseen_users: int
    repeats: int
    missing_share: float
    rankings: dict[str, Ranking]


def evaluate(artifact: Artifact, cases: Cases, *, exclude_seen: bool = False) -> Evaluation:
    """Rank all known items for every case, by the model's dot products and by each baseline.

    exclude_seen: nobody's own past items are ranked, and who returns to one of them is left out.
    """
    chosen = without_repeats(cases) if exclude_seen else cases
    users = artifact.encode(chosen.histories).user
    items = artifact.item_vectors.T
    scorers: dict[str, Callable[[Ints], Any]] = {
        "twintide": lambda some: users[some] @ items,
        **baselines(chosen, artifact.vocabulary, artifact.settings.gap_ms),
    }
    rankings = {name: summarise(ranks_by(score, chosen, exclude_seen)) for name, score in scorers.items()}
    return Evaluation(
        users=len(chosen.target),
        unseen_users=cases.unseen_users,
        repeats=len(cases.target) - len(chosen.target),
        missing_share=float((chosen.target < 0).mean()),
        rankings=rankings,
    )


def ranks_by(score: Callable[[Ints], Any], cases: Cases, exclude_seen: bool) -> Ranks:
    """Return the rank (B,) of each case's target by a scorer of users."""
    everyone = np.arange(len(cases.target))
    at_once = max(SCORES_AT_ONCE // len(score(everyone[:1])[0]), 1)
    parts = [everyone[begin : begin + at_once] for begin in range(0, len(everyone), at_once)]
    return np.concatenate([_ranks(score(part), cases, part, exclude_seen) for part in parts])


def _ranks(scores: Any, cases: Cases, users: Ints, exclude_seen: bool) -> Ranks:
    if exclude_seen:
        scores = np.array(scores)
        scores[cases.seen(users)] = -np.inf
    return ranks(scores, cases.target[users])


def as_table(evaluation: Evaluation) -> str:
    """Return the figures as the lines of a table; +- is half the 95 % confidence interval of NDCG@10."""
    lines = [f"{'':20}{'recall@10':>11}{'recall@20':>11}{'ndcg@10':>11}{'mrr':>11}{'ndcg@10 +-':>12}"]
    for name, found in evaluation.rankings.items():
        figures = (found.recall_at_10, found.recall_at_20, found.ndcg_at_10, found.mrr)
        columns = "".join(f"{figure:11.4f}" for figure in figures)
        lines.append(f"{name:20}{columns}{found.ndcg_at_10_error:12.4f}")
    return "\n".join(lines)
