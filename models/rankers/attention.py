"""How queries look at keys: one family behind one interface, with and without a softmax.

Letters: B users, C queries, T keys, D dimension, H units, N heads, W width of what is made of a key once.

Sources: of the MLP DIN (arXiv 1706.06978) figure 2, of the bilinear form DIEN (arXiv 1809.03672) eq. 8 and
DSIN (arXiv 1905.06482) eq. 9, of the heads arXiv 1706.03762.
"""

import math

import torch
from torch import Tensor, nn

from models.rankers.layers import FIRST_SPREAD, Dice
from models.rankers.settings import RankerSettings

#: What a key that is none scores before a softmax; float16 has it, too.
NEVER = -3e4


class Attention(nn.Module):
    """What each query sees of the keys, as the weighted sum of them; each kind says how well the two fit."""

    def __init__(self, dimension: int, softmax: bool) -> None:
        """softmax: whether the weights of a query are made to sum up to 1."""
        super().__init__()
        self.dimension = dimension
        self.softmax = softmax

    def keys_of(self, keys: Tensor) -> Tensor:
        """Return what is made of keys (B, T, D) once, whatever the queries: (B, T, W), the keys first."""
        return keys

    def scores(self, queries: Tensor, made: Tensor, is_real: Tensor) -> Tensor:
        """Return how well each key fits queries (B, C, D): (B, C, T)."""
        raise NotImplementedError

    def weights(self, queries: Tensor, made: Tensor, is_real: Tensor) -> Tensor:
        """Return how much each key counts for each query (B, C, T), 0 where is_real (B, T) is not."""
        return self._weighed(self.scores(queries, made, is_real), is_real.unsqueeze(1))

    def forward(self, queries: Tensor, made: Tensor, is_real: Tensor) -> tuple[Tensor, Tensor]:
        """Return what queries (B, C, D) see (B, C, D), and the weights (B, C, T); made: see `keys_of`."""
        weights = self.weights(queries, made, is_real)
        return weights @ made[..., : self.dimension], weights

    def _weighed(self, scores: Tensor, is_real: Tensor) -> Tensor:
        if self.softmax:
            scores = torch.softmax(scores.masked_fill(~is_real, NEVER), dim=-1)
        return scores * is_real


class Dot(Attention):
    """q . k / sqrt(D)."""

    def scores(self, queries: Tensor, made: Tensor, is_real: Tensor) -> Tensor:
        return queries @ made.transpose(1, 2) / math.sqrt(self.dimension)


class Bilinear(Attention):
    """k W q: the product with W is made of the keys once."""

    def __init__(self, dimension: int, softmax: bool, of_query: int | None = None) -> None:
        """of_query: the queries' own length, where it is not that of the keys."""
        super().__init__(dimension, softmax)
        self.form = nn.Parameter(torch.empty(dimension, of_query or dimension))
        nn.init.xavier_uniform_(self.form)

    def keys_of(self, keys: Tensor) -> Tensor:
        return torch.cat([keys, keys @ self.form], dim=-1)

    def scores(self, queries: Tensor, made: Tensor, is_real: Tensor) -> Tensor:
        return queries @ made[..., self.dimension :].transpose(1, 2)


class Mlp(Attention):
    """The activation unit: a layer with Dice on [q, k, q - k, q * k], and one number from it.

    The layer's product with [q, k, q - k] is one with q and one with k, so that only q * k is left to be
    multiplied for each pair.
    """

    def __init__(self, dimension: int, softmax: bool, units: int) -> None:
        super().__init__(dimension, softmax)
        self.layer = nn.Linear(4 * dimension, units)
        self.dice = Dice(units)
        self.last = nn.Linear(units, 1)

    def keys_of(self, keys: Tensor) -> Tensor:
        _, of_key, of_difference, _ = self.layer.weight.chunk(4, dim=1)  # (H, D) each
        return torch.cat([keys, keys @ (of_key - of_difference).T + self.layer.bias], dim=-1)

    def scores(self, queries: Tensor, made: Tensor, is_real: Tensor) -> Tensor:
        of_query, _, of_difference, of_product = self.layer.weight.chunk(4, dim=1)
        keys, from_key = made[..., : self.dimension], made[..., self.dimension :]
        from_query = queries @ (of_query + of_difference).T  # (B, C, H)
        products = queries.unsqueeze(2) * keys.unsqueeze(1)  # (B, C, T, D)
        units = products @ of_product.T + from_query.unsqueeze(2) + from_key.unsqueeze(1)  # (B, C, T, H)
        return self.last(self.dice(units, is_real.unsqueeze(1))).squeeze(-1)  # type: ignore[no-any-return]


class Position(Mlp):
    """The activation unit, plus what is learned of each place, counted from the newest event."""

    def __init__(self, dimension: int, softmax: bool, units: int, places: int) -> None:
        super().__init__(dimension, softmax, units)
        self.place = nn.Parameter(torch.randn(places) * FIRST_SPREAD)

    def scores(self, queries: Tensor, made: Tensor, is_real: Tensor) -> Tensor:
        before = is_real.long().sum(dim=1, keepdim=True) - is_real.long().cumsum(dim=1)  # (B, T)
        return super().scores(queries, made, is_real) + self.place[before].unsqueeze(1)


class MultiHead(Attention):
    """Heads that each look at a part of the vectors; self-attention where the queries are the keys."""

    def __init__(self, dimension: int, softmax: bool, heads: int) -> None:
        super().__init__(dimension, softmax)
        self.heads = heads
        self.query, self.key, self.value, self.out = (
            nn.Linear(dimension, dimension, bias=False) for _ in range(4)
        )

    def keys_of(self, keys: Tensor) -> Tensor:
        return torch.cat([self.value(keys), self.key(keys)], dim=-1)

    def scores(self, queries: Tensor, made: Tensor, is_real: Tensor) -> Tensor:
        """Return what each head has: (B, N, C, T)."""
        query, key = self._by_head(self.query(queries)), self._by_head(made[..., self.dimension :])
        return query @ key.transpose(2, 3) / math.sqrt(self.dimension // self.heads)

    def weights(self, queries: Tensor, made: Tensor, is_real: Tensor) -> Tensor:
        """Return the mean of the heads' weights."""
        return self._of_heads(queries, made, is_real).mean(dim=1)

    def forward(self, queries: Tensor, made: Tensor, is_real: Tensor) -> tuple[Tensor, Tensor]:
        weights = self._of_heads(queries, made, is_real)
        seen = weights @ self._by_head(made[..., : self.dimension])  # (B, N, C, D / N)
        return self.out(seen.transpose(1, 2).flatten(2)), weights.mean(dim=1)

    def _of_heads(self, queries: Tensor, made: Tensor, is_real: Tensor) -> Tensor:
        return self._weighed(self.scores(queries, made, is_real), is_real[:, None, None])

    def _by_head(self, values: Tensor) -> Tensor:
        """Return (B, N, T, D / N) of values (B, T, D)."""
        return values.reshape(*values.shape[:2], self.heads, -1).transpose(1, 2)


def make_attention(settings: RankerSettings) -> Attention:
    """Return the attention that settings name."""
    dimension, softmax = settings.dimension, settings.softmax
    match settings.attention:
        case "dot":
            return Dot(dimension, softmax)
        case "bilinear":
            return Bilinear(dimension, softmax)
        case "multi-head":
            return MultiHead(dimension, softmax, settings.heads)
        case "position":
            return Position(dimension, softmax, settings.attention_units, settings.max_events)
        case "mlp":
            return Mlp(dimension, softmax, settings.attention_units)
