"""Who ranks: a scorer gives every item a score for some users, and the scores give the targets' ranks."""

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from models.arrays import Ints
from offline.ranking.metrics import Ranks, ranks
from offline.ranking.protocols import Cases

#: Scores that are held at a time.
SCORES_AT_ONCE = 2_000_000

#: (B, I): a score of every known item for each of B users.
Scores = npt.NDArray[np.floating]
#: Returns the scores of the users with these indices (B,) among the cases.
Scorer = Callable[[Ints], Scores]


def scores_by(score: Scorer, cases: Cases, exclude_seen: bool) -> Iterator[tuple[Ints, Scores]]:
    """Yield some cases at a time with their scores (B, I), minus infinity where an item is not ranked."""
    everyone = np.arange(len(cases.target))
    at_once = max(SCORES_AT_ONCE // len(score(everyone[:1])[0]), 1)
    for begin in range(0, len(everyone), at_once):
        users = everyone[begin : begin + at_once]
        scores = score(users)
        if exclude_seen:
            scores = np.array(scores)
            scores[cases.seen(users)] = -np.inf
        yield users, scores


def ranks_by(score: Scorer, cases: Cases, exclude_seen: bool) -> Ranks:
    """Return the rank (B,) of each case's target by a scorer."""
    parts = scores_by(score, cases, exclude_seen)
    return np.concatenate([ranks(scores, cases.target[users]) for users, scores in parts])
