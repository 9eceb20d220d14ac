"""Candidates of users, and what scores them; by dot product with item vectors where there is no ranker."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from models.arrays import Floats
from stream.serving.read_protocol import UserVectors
from stream.serving.recommender import Recommender


class Candidate(NamedTuple):
    """An item to be scored. The category counts for an item that the model does not know; empty: unknown."""

    item_id: str
    category: str = ""


@dataclass(frozen=True, slots=True)
class Scored:
    """The candidates of one user, scored.

    score (C,), NaN where there is none; attention (C, E): how much each of the user's E newest events
    counted for each, where it was asked for and there is any.
    """

    score: Floats
    attention: Floats | None = None


class Scorer(Protocol):
    """Scores candidates; may be used from several threads."""

    @property
    def version(self) -> str:
        """Return the version of the ranker, empty where there is none but the user's own model."""

    def categories(self, user: UserVectors, candidates: Sequence[Candidate]) -> list[str]:
        """Return each candidate's category: the model's, else the candidate's own, which may be empty."""

    def score(
        self,
        users: Sequence[UserVectors],
        candidates: Sequence[Sequence[Candidate]],
        now_ms: int,
        explain: bool,
    ) -> list[Scored]:
        """Return the scores of each user's candidates; now_ms is when. Raises TwintideError."""


class DotProduct:
    """Multiplies the user's vector with the items' of its version, live ones where there are any."""

    version = ""

    def __init__(self, recommender: Recommender) -> None:
        self._recommender = recommender

    def categories(self, user: UserVectors, candidates: Sequence[Candidate]) -> list[str]:
        """Return each candidate's category."""
        found = self._recommender.categories(user, [each.item_id for each in candidates])
        return [known or each.category for known, each in zip(found, candidates, strict=True)]

    def score(
        self,
        users: Sequence[UserVectors],
        candidates: Sequence[Sequence[Candidate]],
        now_ms: int,
        explain: bool,
    ) -> list[Scored]:
        """Return the scores of each user's candidates, NaN of an item that has no vector."""
        del now_ms, explain
        return [
            Scored(self._recommender.score(user, [each.item_id for each in some]))
            for user, some in zip(users, candidates, strict=True)
        ]


def order_of(score: Floats) -> list[int]:
    """Return the places of those that have a score, the greatest first, equal ones as they stand."""
    places = np.argsort(-score, kind="stable")  # NaN goes last
    found: list[int] = places[: np.count_nonzero(~np.isnan(score))].tolist()
    return found
