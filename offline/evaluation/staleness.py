"""What fresh vectors are worth: the same targets, ranked from histories of different age."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from models.arrays import Floats, Ints
from models.artifact.artifact import Artifact
from models.errors import DataError
from models.ids.vocabulary_file import FIRST_KNOWN
from models.log.behaviour_log import BehaviourLog
from models.windows.histories import Histories
from models.windows.log_histories import EVERYTHING, histories_of_log
from models.windows.window import WindowSettings
from offline.ranking.metrics import Ranking, Ranks, ranks, summarise
from offline.ranking.scorers import SCORES_AT_ONCE

#: How long before the target a history ends (ms); None: where the test slice begins.
AGES_MS: Mapping[str, int | None] = {
    "fresh": 0,
    "1 min": 60_000,
    "1 h": 3_600_000,
    "1 day": 86_400_000,
    "frozen": None,
}
#: The most targets that are ranked, and the seed of their draw.
MAX_TARGETS, TARGETS_SEED = 5_000, 0


@dataclass(frozen=True, slots=True)
class FreshnessCurve:
    """How the same `targets` next items rank, by the age of the history that the vectors were made from."""

    targets: int
    rankings: dict[str, Ranking]


def freshness_curve(artifact: Artifact, log: BehaviourLog, cutoff_ms: int) -> FreshnessCurve:
    """Rank events from `cutoff_ms` on, each from its user's window as it was some time before.

    "fresh" knows every earlier event of the user, "1 h" those of an hour before the target or earlier, and
    "frozen" those before the cutoff. Only items that the model knows are asked for; a user without a history
    at that age gets the vector of a cold-start user.
    """
    user_ids, past = histories_of_log(log, artifact.vocabulary, EVERYTHING)
    is_asked = (past.time_ms >= cutoff_ms) & (past.item >= FIRST_KNOWN)
    is_asked[past.starts[:-1]] = False  # a user's first event has no history
    asked = np.flatnonzero(is_asked)
    if not len(asked):
        raise DataError(
            f"{log.path}: no event from the cutoff on has a known item and an earlier event of its user"
        )
    if len(asked) > MAX_TARGETS:
        asked = np.sort(np.random.default_rng(TARGETS_SEED).choice(asked, MAX_TARGETS, replace=False))
    window = artifact.settings.window
    asked_ids = [user_ids[user] for user in np.searchsorted(past.starts, asked, side="right") - 1]
    rankings = {}
    for name, age_ms in AGES_MS.items():
        histories = histories_before(past, asked, age_ms, cutoff_ms, window)
        users = artifact.encode(histories, asked_ids).user
        rankings[name] = summarise(_ranks(artifact, users, past, asked))
    return FreshnessCurve(len(asked), rankings)


def freshness_table(curve: FreshnessCurve) -> str:
    """Return the figures as the lines of a table; +- is half the 95 % confidence interval of NDCG@10."""
    lines = [f"{'history':20}{'recall@10':>11}{'ndcg@10':>11}{'mrr':>11}{'ndcg@10 +-':>12}"]
    for name, found in curve.rankings.items():
        figures = (found.recall_at_10, found.ndcg_at_10, found.mrr)
        columns = "".join(f"{figure:11.4f}" for figure in figures)
        lines.append(f"{name:20}{columns}{found.ndcg_at_10_error:12.4f}")
    return "\n".join(lines)


def histories_before(
    past: Histories, asked: Ints, age_ms: int | None, cutoff_ms: int, window: WindowSettings
) -> Histories:
    """Return what the window of each asked event's user held `age_ms` before it; None: at the cutoff."""
    user = np.searchsorted(past.starts, asked, side="right") - 1
    begin, end = past.starts[user], asked.copy()
    for place, (first, event) in enumerate(zip(begin, asked, strict=True)):
        times_ms = past.time_ms[first:event]
        if age_ms is None:
            end[place] = first + np.searchsorted(times_ms, cutoff_ms, side="left")
        elif age_ms:
            end[place] = first + np.searchsorted(times_ms, past.time_ms[event] - age_ms, side="right")
        if end[place] > first:
            oldest_ms = past.time_ms[end[place] - 1] - window.horizon_ms
            begin[place] = first + np.searchsorted(times_ms, oldest_ms, side="left")
    begin = np.maximum(begin, end - window.max_events)
    counts = end - begin
    starts = np.concatenate(([0], np.cumsum(counts)))
    rows = np.repeat(begin - starts[:-1], counts) + np.arange(starts[-1])
    return Histories(past.item[rows], past.category[rows], past.behaviour[rows], past.time_ms[rows], starts)


def _ranks(artifact: Artifact, users: Floats, past: Histories, asked: Ints) -> Ranks:
    items = artifact.item_vectors.T
    target = past.item[asked] - FIRST_KNOWN
    at_once = max(SCORES_AT_ONCE // items.shape[1], 1)
    parts = [slice(begin, begin + at_once) for begin in range(0, len(asked), at_once)]
    return np.concatenate([ranks(users[part] @ items, target[part]) for part in parts])
