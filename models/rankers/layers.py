"""What rankers are made of beside attention: vectors of events and candidates, Dice, layers that score.

Letters: B users, T events, C candidates, D dimension, H units.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.ages import AGE_BUCKETS
from models.ids.vocabulary import Vocabulary
from models.ids.vocabulary_file import PADDING
from models.quantised import quantised
from models.rankers.features import ITEM_FEATURES
from models.rankers.settings import RankerSettings

#: Below what no variance is.
EPSILON = 1e-8
#: Spread of vectors before they have learned anything.
FIRST_SPREAD = 0.05
#: Less than this is no spread of a feature: a rare one must not count for more than a large one.
LEAST_SPREAD = 0.1


class Events(NamedTuple):
    """The columns of `columns.EventRows` as tensors, (B, T) int64 each."""

    item: Tensor
    category: Tensor
    behaviour: Tensor
    age: Tensor


class Features(NamedTuple):
    """The columns of `features.FeatureRows` as tensors: user (B, F) and candidate (B, C, F) float32."""

    user: Tensor
    candidate: Tensor

    def without_items(self, is_hidden: Tensor) -> "Features":
        """Return them as they are where items are unknown: is_hidden (B, C)."""
        of_item = torch.arange(self.candidate.shape[-1], device=is_hidden.device) < ITEM_FEATURES
        return Features(self.user, self.candidate.masked_fill(is_hidden.unsqueeze(-1) & of_item, 0))

    def at(self, place: Tensor) -> "Features":
        """Return those of the candidates in these places (B, N)."""
        of_each = place.unsqueeze(-1).expand(-1, -1, self.candidate.shape[-1])
        return Features(self.user, self.candidate.gather(1, of_each))


class FeatureScale(nn.Module):
    """Brings each feature to mean 0 and spread 1, as they are in the samples that it was fitted to."""

    mean: Tensor
    spread: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("spread", torch.ones(width))

    def fit(self, features: Features) -> None:
        """Take mean and spread from the features of B users' candidates."""
        values = _side_by_side(features).flatten(0, 1)
        self.mean.copy_(values.mean(dim=0))
        self.spread.copy_(values.std(dim=0, correction=0).clamp(min=LEAST_SPREAD))

    def forward(self, features: Features) -> Tensor:
        """Return all features (B, C, F) of users and their candidates."""
        return (_side_by_side(features) - self.mean) / self.spread


def _side_by_side(features: Features) -> Tensor:
    user, candidate = features
    return torch.cat([user.unsqueeze(1).expand(-1, candidate.shape[1], -1), candidate], dim=-1)


class Vectors(nn.Module):
    """A candidate is its item and category side by side; an event also has its behaviour and age added."""

    def __init__(self, vocabulary: Vocabulary, settings: RankerSettings) -> None:
        super().__init__()
        self.item = _table(vocabulary.item_count, settings.item_dimension, is_large=True)
        self.category = _table(vocabulary.category_count, settings.category_dimension, is_large=True)
        self.behaviour = _table(5, settings.dimension)
        self.age = _table(AGE_BUCKETS, settings.dimension)

    def candidates(self, item: Tensor, category: Tensor) -> Tensor:
        """Return the vectors (..., D) of items (...) of these categories (...)."""
        return torch.cat([self.item(item), self.category(category)], dim=-1)

    def events(self, events: Events) -> Tensor:
        """Return the vectors (B, T, D) of events, 0 where there is none."""
        found: Tensor = self.behaviour(events.behaviour) + self.age(events.age)
        return self.candidates(events.item, events.category) + found

    @staticmethod
    def are_bytes(weights: Mapping[str, Tensor]) -> bool:
        """Return whether the weights of a ranker, by name, are of one that was compressed."""
        return "vectors.item.scale" in weights

    def compress(self) -> None:
        """Have the rows of items and categories as bytes, from which nothing learns any more."""
        self.add_module("item", ByteTable(self.item))
        self.add_module("category", ByteTable(self.category))


class ByteTable(nn.Module):
    """The rows of a table as bytes, with a scale for each."""

    weight: Tensor
    scale: Tensor

    def __init__(self, table: nn.Embedding) -> None:
        super().__init__()
        rows, scale = quantised(table.weight.detach().cpu().numpy())
        self.register_buffer("weight", torch.from_numpy(rows))
        self.register_buffer("scale", torch.from_numpy(scale))

    def forward(self, index: Tensor) -> Tensor:
        """Return the rows (..., D) of indices (...)."""
        return self.weight[index].float() * self.scale[index].unsqueeze(-1)


def _table(rows: int, dimension: int, is_large: bool = False) -> nn.Embedding:
    """Return a table; the gradient of a large one is of the rows alone that were read."""
    table = nn.Embedding(rows, dimension, padding_idx=PADDING, sparse=is_large)
    with torch.no_grad():
        table.weight.normal_(0, FIRST_SPREAD)[PADDING] = 0
    return table


class Dice(nn.Module):
    """x where x is high for its unit, alpha x where it is low, and smoothly between.

    p x + (1 - p) alpha x with p = sigmoid((x - mean) / sqrt(variance + epsilon)), of each unit, over what is
    real in a batch; over all batches so far once it has learned. Source: DIN (arXiv 1706.06978) eq. 4.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, units: int, momentum: float = 0.01) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(units))
        self.register_buffer("mean", torch.zeros(units))
        self.register_buffer("variance", torch.ones(units))
        self.momentum = momentum

    def forward(self, values: Tensor, is_real: Tensor | None = None) -> Tensor:
        """Return values (..., H) activated; is_real (...): which of them count in training, None for all."""
        mean, variance = self._spread(values, is_real) if self.training else (self.mean, self.variance)
        p = torch.sigmoid((values - mean) * torch.rsqrt(variance + EPSILON))
        return values * (self.alpha + (1 - self.alpha) * p)

    def _spread(self, values: Tensor, is_real: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return mean and variance (H,) of what is real, and remember them."""
        real = values.new_ones(1).float() if is_real is None else is_real.float()
        counted = real.expand(values.shape[:-1]).reshape(-1, 1)  # (N, 1)
        flat = values.reshape(-1, values.shape[-1]).float()  # (N, H), exact in mixed precision, too
        total = counted.sum().clamp(min=1)
        mean = (flat * counted).sum(dim=0) / total
        variance = ((flat - mean).square() * counted).sum(dim=0) / total
        with torch.no_grad():
            self.mean += self.momentum * (mean - self.mean)
            self.variance += self.momentum * (variance - self.variance)
        return mean, variance


class Scorer(nn.Module):
    """Layers with Dice between, to one number for each candidate."""

    def __init__(self, width: int, units: Sequence[int]) -> None:
        super().__init__()
        widths = (width, *units)
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in zip(widths, units, strict=False))
        self.dice = nn.ModuleList(Dice(each) for each in units)
        self.last = nn.Linear(units[-1], 1)

    def forward(self, values: Tensor) -> Tensor:
        """Return the scores (B, C) of values (B, C, W)."""
        for layer, dice in zip(self.layers, self.dice, strict=True):
            values = dice(layer(values))
        return self.last(values).squeeze(-1)  # type: ignore[no-any-return]
