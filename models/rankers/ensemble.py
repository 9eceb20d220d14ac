"""Several rankers as one: a candidate's score is the sum of theirs, each times its weight; needs no torch."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from models.arrays import Floats, Ints
from models.errors import SettingsError
from models.ranker import Candidates, Ranker, Scores
from models.rankers.settings import RankerSettings
from models.windows.histories import Histories

#: How weights are come by: all alike; as sums up to 1 and predicts best; whatever predicts best, with a bias.
How = Literal["mean", "weighted", "stacked"]


@dataclass(frozen=True, slots=True)
class EnsembleSettings:
    """The members, in the order of their files, and what is made of their log-odds."""

    how: How
    members: tuple[RankerSettings, ...]
    weights: tuple[float, ...]
    bias: float = 0.0

    def __post_init__(self) -> None:
        if len(self.members) < 2 or len(self.weights) != len(self.members):
            raise SettingsError(
                f"an ensemble has {len(self.members)} members and {len(self.weights)} weights; it needs two "
                "members at least, and a weight of each"
            )
        if not np.isfinite([*self.weights, self.bias]).all() or not any(self.weights):
            raise SettingsError(f"weights are {self.weights} and the bias {self.bias}; they must be finite")

    @property
    def reads(self) -> RankerSettings:
        """Settings that read whatever any of the members does; each computes its features by itself."""
        events = max(each.max_events for each in self.members)
        horizon_ms = max(each.horizon_ms for each in self.members)
        of_sessions = [each for each in self.members if each.kind == "dsin"]
        if not of_sessions:
            first = replace(self.members[0], kind="din", features=False)
            return replace(first, max_events=events, horizon_ms=horizon_ms)
        # So many sessions have as many events at least, and are as many as any member reads.
        most = max(events, *(each.sessions for each in of_sessions))
        gap_ms = max(each.gap_ms for each in of_sessions)
        widest = replace(of_sessions[0], max_events=most, sessions=most, features=False)
        return replace(widest, gap_ms=gap_ms, horizon_ms=horizon_ms)


class EnsembleRanker:
    """A `models.ranker.Ranker` of several."""

    def __init__(self, members: Sequence[Ranker], settings: EnsembleSettings) -> None:
        self._members = members
        self._settings = settings

    def rank(
        self, histories: Histories, candidates: Candidates, now_ms: Ints, explain: bool = False
    ) -> Scores:
        """Return the scores of the candidates of B users; see `Ranker.rank`. A score is a logit.

        What an event counted is the mean of what it counted for the members, by the size of their weights.
        """
        weights = self._settings.weights
        found = [each.rank(histories, candidates, now_ms, explain) for each in self._members]
        score = combined([each.score for each in found], self._settings)
        total = sum(map(abs, weights))
        attention = [
            np.sum([abs(w) / total * a for w, a in zip(weights, of_user, strict=True)], axis=0)
            for of_user in zip(*(each.attention for each in found), strict=True)
        ]
        return Scores(score, [each.astype(np.float32) for each in attention])


def combined(scores: Sequence[Floats], settings: EnsembleSettings) -> Floats:
    """Return the score (C,) of each candidate, of those of all members (C,)."""
    weighed = [weight * each for weight, each in zip(settings.weights, scores, strict=True)]
    found: Floats = (np.sum(weighed, axis=0) + settings.bias).astype(np.float32)
    return found
