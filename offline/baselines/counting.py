"""The rankers to be beaten; here those that only count: what is popular, what a user had, what follows."""

from collections.abc import Mapping

import numpy as np

from models.arrays import Ints
from models.ids.vocabulary import Vocabulary
from models.ids.vocabulary_file import FIRST_KNOWN
from models.log.behaviour_log import BehaviourLog
from models.log.times import DAY_MS, HOUR_MS
from offline.baselines.factorisation import factorisations
from offline.baselines.neighbours import item_knn, session_knn
from offline.ranking.protocols import Cases
from offline.ranking.scorers import Scorer, Scores

#: Share of the known rows, the last by time, that counts as recent.
RECENT_SHARE = 0.1


def baselines(cases: Cases, vocabulary: Vocabulary, gap_ms: int) -> Mapping[str, Scorer]:
    """Return the baselines by name, learned from all rows that the cases may know.

    Equal scores are told apart by popularity and then by the order of the vocabulary. Sessions end with a
    pause over `gap_ms`. ALS and BPR are there where the package `implicit` is.
    """
    known = cases.known
    recent_rows = max(int(len(known) * RECENT_SHARE), 1)
    recent = known.in_time_order().select(np.arange(len(known) - recent_rows, len(known)))
    popular = popularity(known, vocabulary)

    def since(ago_ms: int) -> Scores:
        late = known.select(known.time_ms > known.time_ms.max() - ago_ms)
        return popularity(late, vocabulary) + popular / 1e9

    return {
        "popularity": _same_for_all(popular),
        "recent popularity": _same_for_all(popularity(recent, vocabulary) + popular / 1e9),
        "last hour": _same_for_all(since(HOUR_MS)),
        "last day": _same_for_all(since(DAY_MS)),
        "had last": had_last(cases, popular),
        "markov": markov(cases, vocabulary),
        "item kNN": item_knn(cases, popular),
        "session kNN": session_knn(cases, popular, gap_ms),
        **factorisations(cases, len(popular)),
    }


def popularity(log: BehaviourLog, vocabulary: Vocabulary) -> Scores:
    """Return (I,): how many rows each known item has; ties go to the earlier in the vocabulary."""
    item = vocabulary.item_indices(log.item.values.tolist())[log.item.codes] - FIRST_KNOWN
    count = len(vocabulary.item_ids)
    return np.bincount(item[item >= 0], minlength=count) - np.arange(count) / (2 * count)


def _same_for_all(scores: Scores) -> Scorer:
    return lambda users: np.broadcast_to(scores, (len(users), len(scores)))


def had_last(cases: Cases, popular: Scores) -> Scorer:
    """Return the scorer that ranks what a user had, the last first, and behind it what is popular."""
    histories = cases.histories
    behind = popular / (2 * max(popular.max(), 1))

    def score(users: Ints) -> Scores:
        scores = np.tile(behind, (len(users), 1))
        for row, user in enumerate(users):
            item = histories.item[histories.starts[user] : histories.starts[user + 1]] - FIRST_KNOWN
            known = item >= 0
            scores[row, item[known]] = 1 + np.flatnonzero(known)
        return scores

    return score


def markov(cases: Cases, vocabulary: Vocabulary) -> Scorer:
    """Return the scorer of a first-order Markov chain: how often an item came right after the last one."""
    known = cases.known
    order = known.by_user()
    user = known.user.codes[order]
    item = vocabulary.item_indices(known.item.values.tolist())[known.item.codes[order]] - FIRST_KNOWN
    is_step = (user[1:] == user[:-1]) & (item[1:] >= 0) & (item[:-1] >= 0)
    before, after = item[:-1][is_step], item[1:][is_step]
    by_before = np.argsort(before, kind="stable")
    before, after = before[by_before], after[by_before]
    count = len(vocabulary.item_ids)
    fallback = popularity(known, vocabulary) / (2 * len(known) + 2)
    last = cases.histories.item[cases.histories.starts[1:] - 1] - FIRST_KNOWN

    def score(users: Ints) -> Scores:
        scores = np.tile(fallback, (len(users), 1))
        for row, previous in enumerate(last[users]):
            begin, end = np.searchsorted(before, [previous, previous + 1])
            scores[row] += np.bincount(after[begin:end], minlength=count)
        return scores

    return score
