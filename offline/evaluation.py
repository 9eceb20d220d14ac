"""Ranks and metrics of an artifact and of the baselines on the same cases."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from models.artifact import Artifact
from offline.baselines import baselines
from offline.metrics import Ranking, Ranks, ranks, summarise
from offline.protocols import Cases

#: Users whose scores of all items are held at a time.
USERS_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How the model ("twintide") and the baselines rank, over `users` users."""

    users: int
    unseen_users: int
    missing_share: float
    rankings: dict[str, Ranking]


def evaluate(artifact: Artifact, cases: Cases) -> Evaluation:
    """Rank all known items for every case, by the model's dot products and by each baseline."""
    users = artifact.encode(cases.histories).user
    items = artifact.item_vectors.T
    scorers: dict[str, Callable[[Any], Any]] = {
        "twintide": lambda chosen: users[chosen] @ items,
        **baselines(cases, artifact.vocabulary),
    }
    rankings = {name: summarise(ranks_by(scorer, cases.target)) for name, scorer in scorers.items()}
    missing = float((cases.target < 0).mean())
    return Evaluation(len(cases.target), cases.unseen_users, missing, rankings)


def ranks_by(score: Callable[[npt.NDArray[np.int64]], Any], target: npt.NDArray[np.int64]) -> Ranks:
    """Return the rank (B,) of each target (B,) by a scorer of users."""
    chosen = np.arange(len(target))
    parts = [chosen[begin : begin + USERS_AT_ONCE] for begin in range(0, len(target), USERS_AT_ONCE)]
    return np.concatenate([ranks(score(part), target[part]) for part in parts])


def as_table(evaluation: Evaluation) -> str:
    """Return the figures as the lines of a table."""
    lines = [f"{'':20}{'recall@10':>11}{'recall@20':>11}{'ndcg@10':>11}{'mrr':>11}"]
    for name, found in evaluation.rankings.items():
        figures = (found.recall_at_10, found.recall_at_20, found.ndcg_at_10, found.mrr)
        lines.append(f"{name:20}" + "".join(f"{figure:11.4f}" for figure in figures))
    return "\n".join(lines)
