"""The form of the dual towers: their settings, and the numbers that are the same in all; needs no torch."""

from dataclasses import dataclass
from typing import Literal

from models.errors import SettingsError

#: Behaviours have the numbers 1 to 4; 0 is padding.
BEHAVIOUR_ROWS = 5
#: Distances between events are bucketed by logarithm, sessions apart are told apart up to 3.
DISTANCE_BUCKETS = 8
MAX_SESSIONS_APART = 3
#: The last coordinate of every user vector; an item's last one times this is what its score begins with.
POPULARITY_UNIT = 2.0
#: A vector shorter than this is not made as long as 1: its direction is chance, and its gradient would be
#: without bound.
SHORTEST = 0.01
#: Likewise of what enters the towers.
SHORTEST_ENTERING = 0.1


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """The size of the towers and what is dropped while they learn."""

    #: D, the length of every vector.
    dimension: int = 128
    #: Attention heads per layer.
    heads: int = 2
    #: Transformer layers of the long tower.
    long_layers: int = 1
    #: Share of the coordinates of item embeddings and of layer outputs that is dropped in training.
    dropout: float = 0.65
    #: What scores an item: the dot product of its vector and the user's, or their cosine, times a learned
    #: factor. Either way it is the dot product of what is exported: by cosine, item vectors have length 1.
    score: Literal["dot", "cosine"] = "dot"
    #: How long the vectors are by which items enter the towers: all 1, so that the order of what a user had
    #: is not that of their lengths, or as they are learned ("free": what artifacts had before).
    item_length: Literal["one", "free"] = "one"

    def __post_init__(self) -> None:
        for name in ("dimension", "heads", "long_layers"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.dimension % self.heads:
            raise SettingsError(f"dimension {self.dimension} is not a multiple of heads {self.heads}")
        if not 0 <= self.dropout < 1:
            raise SettingsError(f"dropout is {self.dropout}; it must be at least 0 and under 1")
