"""What to show one user, as a list of items; needs neither torch nor Faust."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from stream.serving.read_protocol import UserVectors

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Recommendation:
    """What to show one user: item_ids and their scores, the best first, and what they were made from."""

    user: UserVectors
    item_ids: list[str]
    scores: list[float]
    #: Why live items had no part in it; empty where they had.
    not_live: str = ""
    #: The items' categories, empty where there is none.
    categories: list[str] = field(default_factory=list)
    #: Which of them appeared since the model was trained; empty where none can have.
    is_new: list[bool] = field(default_factory=list)
    #: Which of them explore: they were drawn, as little is known of them; empty where none are to.
    is_explored: list[bool] = field(default_factory=list)

    @property
    def new_items(self) -> int:
        """Return how many of them appeared since the model was trained."""
        return sum(self.is_new)

    @property
    def explored_items(self) -> int:
        """Return how many of them explore."""
        return sum(self.is_explored)

    def in_order(self, places: Sequence[int]) -> "Recommendation":
        """Return these of the items, in this order."""

        def picked(values: list[T]) -> list[T]:
            return [values[place] for place in places] if values else []

        return replace(
            self,
            item_ids=picked(self.item_ids),
            scores=picked(self.scores),
            categories=picked(self.categories),
            is_new=picked(self.is_new),
            is_explored=picked(self.is_explored),
        )

    def with_explored(
        self, item_ids: list[str], scores: list[float], categories: list[str], is_new: list[bool]
    ) -> "Recommendation":
        """Return it with items that explore behind the others, and nowhere else."""
        drawn = set(item_ids)
        others = self.in_order([place for place, item in enumerate(self.item_ids) if item not in drawn])
        count = len(others.item_ids)
        return replace(
            others,
            item_ids=others.item_ids + item_ids,
            scores=others.scores + scores,
            categories=others.categories + categories,
            is_new=(others.is_new or [False] * count) + is_new,
            is_explored=[False] * count + [True] * len(item_ids),
        )
