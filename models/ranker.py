"""The contract of a ranker: a user's history and candidates in, scores out; needs no torch.

A user encoder (models/encoder.py) makes one vector of a user, whoever is asked about; a ranker looks at the
history anew for each candidate. What of that does not depend on the candidates is done once per user.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from models.arrays import Floats, Ints
from models.windows.histories import Histories


@dataclass(frozen=True, slots=True)
class Candidates:
    """Items to score for B users, those of one user after those of another.

    item, category (C,) int64, vocabulary indices; starts (B+1,) int64: user u's are starts[u] to starts[u+1].
    """

    item: Ints
    category: Ints
    starts: Ints


@dataclass(frozen=True, slots=True)
class Scores:
    """score (C,) float32, as the candidates are; the higher, the likelier.

    attention: where it was asked for and the ranker has any, for each user (C_u, E_u) float32, how much each
    of the E_u events of the history (oldest first) counted for each of the C_u candidates; else empty.
    """

    score: Floats
    attention: Sequence[Floats] = ()


class Ranker(Protocol):
    """Scores candidates for users by their histories, in one thread at a time."""

    def rank(
        self, histories: Histories, candidates: Candidates, now_ms: Ints, explain: bool = False
    ) -> Scores:
        """Return the scores of the candidates of B users, whose histories these are; now_ms (B,) is when.

        A user's scores do not depend on who else is asked about, nor a candidate's on the others of its user
        (up to rounding, 1e-5). A user without events has scores too. Raises RuntimeError where it fails.
        """
