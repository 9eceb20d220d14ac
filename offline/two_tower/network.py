"""Two towers over features as they are trained: embeddings, then layers with batch norm and dropout."""

from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from models.arrays import Floats
from models.rankers.layers import Events
from models.two_tower.settings import TwoTowerSettings
from offline.two_tower.features import Features


class Side(nn.Module):
    """What is known of a user or an item, as one vector: id, categories, numbers, histories side by side."""

    def __init__(self, ids: int, features: Features, settings: TwoTowerSettings) -> None:
        """ids: how many there are; id 0 is unknown."""
        super().__init__()
        width = settings.value_dimension
        self.id = nn.Embedding(ids, settings.id_dimension)
        self.categorical = nn.ModuleList(nn.Embedding(count, width) for count in features.code_counts)
        self.history = nn.ModuleList(
            nn.Embedding(count, width, padding_idx=0) for count in features.list_counts
        )
        for table in (self.id, *self.categorical, *self.history):
            nn.init.normal_(cast(nn.Embedding, table).weight, 0, 0.1)
        for table in self.history:
            cast(nn.Embedding, table).weight.data[0] = 0
        values = len(features.code_counts) + len(features.list_counts)
        self.width = settings.id_dimension + values * width + features.numbers.shape[1]
        self.codes: Tensor
        self.numbers: Tensor
        self.register_buffer("codes", torch.from_numpy(features.codes))
        self.register_buffer("numbers", torch.from_numpy(features.numbers))
        for number, codes in enumerate(features.lists):
            self.register_buffer(f"list_{number}", torch.from_numpy(codes))

    def forward(self, ids: Tensor, rows: Tensor) -> Tensor:
        """Return (N, F) of ids (N,), and of rows (N,) of the features."""
        codes = self.codes[rows]  # (N, K)
        parts = [self.id(ids), *(table(codes[:, k]) for k, table in enumerate(self.categorical))]
        for number, table in enumerate(self.history):
            values = getattr(self, f"list_{number}")[rows]  # (N, L)
            count = (values > 0).sum(dim=1, keepdim=True).clamp(min=1)
            parts.append(table(values).sum(dim=1) / count)  # padding is 0
        return torch.cat([*parts, self.numbers[rows]], dim=1)


class Layers(nn.Module):
    """Hidden layers, each Linear, BatchNorm, ReLU and Dropout, and a last Linear."""

    def __init__(self, width: int, settings: TwoTowerSettings) -> None:
        super().__init__()
        sizes = (width, *settings.units)
        self.linear = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(sizes))
        self.norm = nn.ModuleList(nn.BatchNorm1d(size) for size in settings.units)
        self.dropout = nn.Dropout(settings.dropout)
        self.last = nn.Linear(sizes[-1], settings.dimension)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return (N, D) of inputs (N, F); in training N is at least 2."""
        for linear, norm in zip(self.linear, self.norm, strict=True):
            inputs = self.dropout(torch.relu(norm(linear(inputs))))
        return cast(Tensor, self.last(inputs))

    def folded(self) -> tuple[tuple[Floats, Floats], ...]:
        """Return weight (in, out) and bias (out,) of each layer, batch normalisation included."""
        found = []
        for linear, norm in zip(map(_linear, self.linear), map(_norm, self.norm), strict=True):
            mean, variance = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)
            scale = norm.weight / torch.sqrt(variance + norm.eps)
            weight = linear.weight * scale[:, None]
            found.append((weight, norm.bias + (linear.bias - mean) * scale))
        found.append((self.last.weight, self.last.bias))
        return tuple((as_array(weight.T), as_array(bias)) for weight, bias in found)


class TwoTowers(nn.Module):
    """A user's and an item's vector; the score is their dot product."""

    def __init__(
        self, users: Side, items: Side, item_count: int, category_count: int, settings: TwoTowerSettings
    ) -> None:
        """item_count, category_count: how many vocabulary indices events have."""
        super().__init__()
        self.settings = settings
        self.users, self.items = users, items
        self.event_item = nn.Embedding(item_count, settings.event_dimension, padding_idx=0)
        self.event_category = nn.Embedding(category_count, settings.event_dimension, padding_idx=0)
        for table in (self.event_item, self.event_category):
            nn.init.normal_(table.weight, 0, 0.1)
            table.weight.data[0] = 0
        self.user_layers = Layers(users.width + 2 * settings.event_dimension, settings)
        self.item_layers = Layers(items.width, settings)

    def user(self, ids: Tensor, rows: Tensor, events: Events) -> Tensor:
        """Return (B, D) of users whose newest events are (B, T), oldest first, 0 behind them."""
        vectors = self.event_item(events.item) + self.event_category(events.category)  # (B, T, E)
        count = (events.item > 0).sum(dim=1)  # (B,)
        newest = vectors[torch.arange(len(count)), (count - 1).clamp(min=0)]  # (B, E), 0 where there is none
        mean = vectors.sum(dim=1) / count.clamp(min=1)[:, None]
        return cast(Tensor, self.user_layers(torch.cat([self.users(ids, rows), mean, newest], dim=1)))

    def item(self, ids: Tensor, rows: Tensor) -> Tensor:
        """Return (N, D)."""
        return cast(Tensor, self.item_layers(self.items(ids, rows)))


def _linear(module: nn.Module) -> nn.Linear:
    return cast(nn.Linear, module)


def _norm(module: nn.Module) -> nn.BatchNorm1d:
    return cast(nn.BatchNorm1d, module)


def as_array(values: Tensor) -> Floats:
    """Return values as an array of its own."""
    found: Floats = values.detach().float().cpu().contiguous().numpy()
    return found.copy()
