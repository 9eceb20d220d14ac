"""Ranks and metrics of an artifact and of the baselines on the same cases."""

from dataclasses import dataclass

import numpy as np

from models.arrays import Floats
from models.artifact.artifact import Artifact
from models.ids.vocabulary_file import FIRST_KNOWN
from models.windows.histories import histories_of_cold_start
from offline.baselines.counting import baselines
from offline.evaluation.details import Details, details
from offline.ranking.metrics import Ranking, summarise
from offline.ranking.protocols import Cases, without_repeats
from offline.ranking.scorers import Scorer, ranks_by


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How the model ("twintide") and the baselines rank, over `users` users.

    "category alone" and "cold start" are the model's rankings for users without a vector of their own: the
    first knows the category of a user's last item, the second knows nothing.

    cold_start_users: how many had no history, and repeats: how many had their next item before; both are left
    out. missing_share: the share of targets that the model does not know.
    """

    users: int
    cold_start_users: int
    repeats: int
    missing_share: float
    rankings: dict[str, Ranking]
    #: By the same names, where they were asked for.
    details: dict[str, Details]


def evaluate(
    artifact: Artifact, cases: Cases, *, exclude_seen: bool = False, with_details: bool = False
) -> Evaluation:
    """Rank all known items for every case, by the model's dot products and by each baseline.

    exclude_seen: items that a user had before are not ranked for that user, and users whose next item is one
    of them are left out.
    """
    chosen = without_repeats(cases) if exclude_seen else cases
    users = artifact.encode(chosen.histories, chosen.user_ids).user
    at_category, cold_start = _without_own(artifact, chosen)
    items = artifact.item_vectors.T
    scorers: dict[str, Scorer] = {
        "twintide": lambda some: users[some] @ items,
        "category alone": lambda some: at_category[some] @ items,
        "cold start": lambda some: np.repeat(cold_start @ items, len(some), axis=0),
        **baselines(chosen, artifact.vocabulary, artifact.settings.gap_ms),
    }
    rankings = {name: summarise(ranks_by(score, chosen, exclude_seen)) for name, score in scorers.items()}
    found = {}
    if with_details:
        for name, score in scorers.items():
            found[name] = details(score, chosen, artifact.vocabulary, exclude_seen=exclude_seen)
    return Evaluation(
        users=len(chosen.target),
        cold_start_users=cases.cold_start_users,
        repeats=len(cases.target) - len(chosen.target),
        missing_share=float((chosen.target < 0).mean()),
        rankings=rankings,
        details=found,
    )


def _without_own(artifact: Artifact, cases: Cases) -> tuple[Floats, Floats]:
    """Return the vectors of users without their own: by their last category (B, D), and without it (1, D)."""
    vocabulary, histories = artifact.vocabulary, cases.histories
    cold_start = histories_of_cold_start(["", *vocabulary.category_ids], vocabulary)
    vectors = artifact.encode(cold_start).user  # (1 + C, D)
    last = histories.category[histories.starts[1:] - 1]
    return vectors[np.maximum(last - FIRST_KNOWN + 1, 0)], vectors[:1]


def ranking_table(evaluation: Evaluation) -> str:
    """Return the figures as the lines of a table; +- is half the 95 % confidence interval of NDCG@10."""
    lines = [f"{'':20}{'recall@10':>11}{'recall@20':>11}{'ndcg@10':>11}{'mrr':>11}{'ndcg@10 +-':>12}"]
    for name, found in evaluation.rankings.items():
        figures = (found.recall_at_10, found.recall_at_20, found.ndcg_at_10, found.mrr)
        columns = "".join(f"{figure:11.4f}" for figure in figures)
        lines.append(f"{name:20}{columns}{found.ndcg_at_10_error:12.4f}")
    return "\n".join(lines)


def details_table(evaluation: Evaluation) -> str:
    """Return the details as the lines of a table."""
    heads = ("ndcg@10 low", "high", "user auc", "all auc", "coverage", "categories", "diversity", "novelty")
    groups = ("few events", "some", "many", "rare item", "medium", "popular")
    lines = [f"{'':20}" + "".join(f"{head:>12}" for head in heads + groups)]
    for name, found in evaluation.details.items():
        ranked = (*found.interval, found.user_auc, found.pooled_auc)
        varied = (found.coverage, found.categories, found.diversity, found.novelty)
        every = (*ranked, *varied, *found.by_activity, *found.by_popularity)
        lines.append(f"{name:20}" + "".join(f"{figure:12.4f}" for figure in every))
    return "\n".join(lines)
