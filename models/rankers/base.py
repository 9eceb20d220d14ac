"""What a ranker is while it learns: a part that knows the user alone, and a part that knows the candidates.

Letters: B users, T events, C candidates, D dimension, F features.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.ids.vocabulary import Vocabulary
from models.ids.vocabulary_file import PADDING
from models.rankers.features import feature_width
from models.rankers.layers import Events, Features, FeatureScale, Scorer, Vectors
from models.rankers.settings import RankerSettings


class RankerModule(nn.Module):
    """The base of all rankers. What `of_user` returns has a user in each row, and enters `of_candidates`."""

    #: What the tensors of `of_user` are called in graphs, and the axis of each, from 1 on, that grows with T.
    state: Sequence[tuple[str, int | None]] = ()
    #: What scores, at last.
    scorer: Scorer

    def __init__(self, vocabulary: Vocabulary, settings: RankerSettings) -> None:
        super().__init__()
        self.settings = settings
        self.vectors = Vectors(vocabulary, settings)
        self.features = FeatureScale(feature_width(settings)) if settings.features else None

    def of_user(self, events: Events) -> tuple[Tensor, ...]:
        """Return what candidates need to know of B users with events (B, T)."""
        raise NotImplementedError

    def of_candidates(
        self, state: Sequence[Tensor], item: Tensor, category: Tensor, features: Features | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return scores (B, C) of candidates (B, C), as log-odds, and what each event counted (B, C, T).

        features: of a ranker whose settings say so.
        """
        raise NotImplementedError

    def forward(
        self, events: Events, item: Tensor, category: Tensor, features: Features | None = None
    ) -> Tensor:
        """Return the scores (B, C) of candidates (B, C)."""
        return self.of_candidates(self.of_user(events), item, category, features)[0]

    def auxiliary_loss(self, events: Events, item: Tensor, category: Tensor) -> Tensor | None:
        """Return what else is to become small, None for nothing; items (B, T) are drawn, not the user's."""
        return None

    def is_real(self, events: Events) -> Tensor:
        """Return where there are events (B, T)."""
        return events.item != PADDING

    def make_scorer(self, vectors: int) -> Scorer:
        """Return layers that score so many vectors (D) side by side, and the features."""
        settings = self.settings
        return Scorer(vectors * settings.dimension + feature_width(settings), settings.units)

    def scored(self, vectors: Sequence[Tensor], features: Features | None) -> Tensor:
        """Return the scores (B, C) of vectors (B, C, D), and the features where the ranker reads any."""
        if self.features is None:
            return self.scorer(torch.cat(list(vectors), dim=-1))  # type: ignore[no-any-return]
        if features is None:
            raise ValueError("this ranker reads features, and was given none")
        return self.scorer(torch.cat([*vectors, self.features(features)], dim=-1))  # type: ignore[no-any-return]
