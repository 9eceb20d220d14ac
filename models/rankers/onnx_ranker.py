"""A trained ranker as it serves: a `models.ranker.Ranker` by its ONNX graphs; needs no torch."""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np

from models.arrays import Flags, Floats, Ints
from models.length_buckets import buckets
from models.ranker import Candidates, Scores
from models.rankers.columns import NO_EVENT, EventRows, event_rows
from models.rankers.features import feature_rows
from models.rankers.settings import RankerSettings
from models.windows.histories import Histories

#: Pairs of a candidate and an event that are computed at once at most, but for a single user's.
MOST_PAIRS = 1 << 16


class Run(Protocol):
    """A graph, or what computes the same."""

    def run(self, feed: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the outputs by name. Raises RuntimeError where it fails."""


class OnnxRanker:
    """Looks once at each user, and then at its candidates."""

    def __init__(self, of_user: Run, of_candidates: Run, settings: RankerSettings) -> None:
        self.settings = settings
        self._of_user = of_user
        self._of_candidates = of_candidates

    def rank(
        self, histories: Histories, candidates: Candidates, now_ms: Ints, explain: bool = False
    ) -> Scores:
        """Return the scores of the candidates of B users; see `Ranker.rank`. A score is a logit."""
        score = np.zeros(len(candidates.item), np.float32)
        attention = [np.zeros((0, 0), np.float32)] * (len(histories) if explain else 0)
        counts = np.diff(candidates.starts)
        for users in self._batches(np.diff(histories.starts), counts):
            asked = histories.take(users)
            rows = event_rows(asked, now_ms[users], self.settings)
            places, is_asked = _padded(candidates.starts[users], counts[users])
            pairs = candidates.item[places], candidates.category[places]
            found = self._run(rows, *pairs, self._features(asked, now_ms[users], *pairs))
            score[places[is_asked]] = found["score"][is_asked]
            for row, user in enumerate(users if explain else ()):
                weights = found["attention"][row, : counts[user]]
                attention[user] = _by_event(weights, rows.event[row], asked.starts[row : row + 2])
        return Scores(score, attention)

    def _run(
        self, rows: EventRows, item: Ints, category: Ints, features: Mapping[str, Floats]
    ) -> Mapping[str, Floats]:
        """Return score (B, C) and attention (B, C, T) of candidates (B, C)."""
        state = self._of_user.run(rows.columns())
        candidates = {"candidate_item": item, "candidate_category": category}
        return self._of_candidates.run({**state, **candidates, **features})

    def _features(
        self, histories: Histories, now_ms: Ints, item: Ints, category: Ints
    ) -> Mapping[str, Floats]:
        """Return what the ranker reads of candidates (B, C) beside them, by name; of one without, nothing."""
        if not self.settings.features:
            return {}
        return feature_rows(histories, now_ms, item, category, self.settings).columns()

    def _batches(self, events: Ints, candidates: Ints) -> Iterator[Ints]:
        """Yield users (indices) of about as many events, some at a time, but those without candidates."""
        asked = np.flatnonzero(candidates)
        for some in buckets(np.minimum(events[asked], self.settings.max_events)):
            users = asked[some]
            users = users[np.argsort(candidates[users], kind="stable")]
            while len(users):  # the last has most candidates, so all are padded to that
                pairs = int(candidates[users[-1]]) * self.settings.max_events
                at_once = max(1, MOST_PAIRS // pairs)
                yield users[-at_once:]
                users = users[:-at_once]


def _padded(firsts: Ints, counts: Ints) -> tuple[Ints, Flags]:
    """Return the places (B, C) of users' candidates, the first where there are no more; which are real."""
    column = np.arange(int(counts.max()))
    is_real = column < counts[:, None]
    return firsts[:, None] + np.where(is_real, column, 0), is_real


def _by_event(weights: Floats, event: Ints, span: Ints) -> Floats:
    """Return weights (C, T) of a row's places as those (C, E) of all events of its user."""
    first, end = span
    found = np.zeros((len(weights), int(end - first)), np.float32)
    is_read = event != NO_EVENT
    found[:, event[is_read] - first] = weights[:, is_read]
    return found
