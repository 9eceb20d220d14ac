"""DIN: a user is, for each candidate, the sum of the events that it makes active.

Source: Zhou et al., Deep Interest Network for Click-Through Rate Prediction (arXiv 1706.06978); what enters
the layers that score is as in the authors' code.
"""

from collections.abc import Sequence

from torch import Tensor

from models.ids.vocabulary import Vocabulary
from models.rankers.attention import make_attention
from models.rankers.base import RankerModule
from models.rankers.layers import Events, Features
from models.rankers.settings import RankerSettings


class Din(RankerModule):
    """The activation unit over the events, no softmax unless it is asked for, and layers with Dice."""

    state = (("keys", 1), ("is_real", 1), ("taste", None))

    def __init__(self, vocabulary: Vocabulary, settings: RankerSettings) -> None:
        super().__init__(vocabulary, settings)
        self.attention = make_attention(settings)
        self.scorer = self.make_scorer(4)

    def of_user(self, events: Events) -> tuple[Tensor, ...]:
        """Return what attention makes of the events, which are real, and their mean (B, D)."""
        vectors, is_real = self.vectors.events(events), self.is_real(events)
        taste = vectors.sum(dim=1) / is_real.sum(dim=1, keepdim=True).clamp(min=1)  # padding is 0
        return self.attention.keys_of(vectors), is_real.float(), taste

    def of_candidates(
        self, state: Sequence[Tensor], item: Tensor, category: Tensor, features: Features | None = None
    ) -> tuple[Tensor, Tensor]:
        keys, is_real, taste = state
        candidates = self.vectors.candidates(item, category)  # (B, C, D)
        seen, weights = self.attention(candidates, keys, is_real > 0)
        of_user = taste.unsqueeze(1).expand_as(candidates)
        entering = [candidates, of_user, candidates * of_user, seen]
        return self.scored(entering, features), weights
