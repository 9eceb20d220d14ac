"""Events -> the towers' vectors on a CPU: those of `DualTowers` (up to 1e-5) at a small part of the cost.

Only the newest event is asked for in a tower's last layer, so the projections to keys and values, which the
layer makes for every event, are folded into what is made once per user:

    score_t = (W_q x_n) . (W_k x_t) = (W_k' W_q x_n) . x_t        sum_t a_t W_v x_t = W_v (sum_t a_t x_t)

with the gains of the norms inside the folded matrices. What is left per event is in kernels.py: no padding,
and a user's vector does not depend on who else is encoded.
"""

from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.arrays import Floats
from models.ids.vocabulary_file import UNKNOWN
from models.inference import kernels
from models.inference.kernels import Tables, TowerEvents
from models.towers.dual_towers import SHORTEST_ENTERING, DualTowers, ItemEmbedding
from models.towers.histories import GAP_BUCKETS, EventFeatures, Part
from models.towers.layers import AttentionBias, Layer, Tower
from models.windows.histories import Histories

#: Items whose lengths are found at a time: there may be millions.
AT_ONCE = 65_536


class Linear(NamedTuple):
    """weight (out, in) and bias (out,) of a linear map."""

    weight: Tensor
    bias: Tensor

    def __call__(self, value: Tensor) -> Tensor:
        """Return (..., out) of (..., in)."""
        return functional.linear(value, self.weight, self.bias)


class CpuTower:
    """A tower of one layer, asked at the newest event alone; one that training left out costs nothing."""

    def __init__(self, tower: Tower, scale: Tensor) -> None:
        layer, bias = cast(Layer, tower.layers[0]), cast(AttentionBias, tower.biases[0])
        self.heads = layer.heads
        self.query, self.output = _folded_attention(layer)
        norm, wide, _, _, narrow, _ = layer.feed_forward
        self.wide = _behind_norm(cast(nn.LayerNorm, norm), cast(nn.Linear, wide))
        self.narrow = Linear(cast(Tensor, narrow.weight), cast(Tensor, narrow.bias))
        self.scale, self.shift = scale * tower.norm.weight, scale * tower.norm.bias
        self.by_distance, self.by_session = (table.numpy() for table in bias.tables())
        self.is_left_out = not (self.scale.any() or self.shift.any())

    def __call__(self, events: TowerEvents, tables: Tables, part: Part) -> Tensor:
        """Return the tower's vectors (B, D) of these parts of the events; of an empty one anything."""
        if self.is_left_out:
            return torch.zeros(len(part.counts), len(self.scale))  # (B, D)
        entering, normed = kernels.newest(events, tables, *part)  # (B, D) each
        queries = self.query(torch.from_numpy(normed)).view(
            len(normed), self.heads, normed.shape[1]
        )  # (B, H, D)
        biases = self.by_distance, self.by_session
        seen = kernels.attend(events, tables, *part, queries.numpy(), *biases)  # (B, H, D)
        residual = self.output(torch.from_numpy(seen).flatten(1)) + torch.from_numpy(entering)  # (B, D)
        residual = residual + self.narrow(functional.gelu(self.wide(_normed(residual))))  # (B, D)
        return _normed(residual) * self.scale + self.shift  # (B, D)


class CpuTowers:
    """Dual towers whose Transformers have one layer each, for encoding on a CPU."""

    reads_live = True

    def __init__(self, towers: DualTowers) -> None:
        with torch.inference_mode():
            self._towers = towers
            self._short = CpuTower(towers.short_tower, towers.short_scale)
            self._long = CpuTower(towers.long_tower, towers.long_scale)
            detail = towers.behaviour.weight[:, None] + towers.gap.weight  # (behaviours, GAP_BUCKETS, D)
            self._tables = Tables(
                towers.items.item.weight.numpy(),
                towers.items.category.weight.numpy(),
                detail.flatten(0, 1).numpy(),
                *_lengths(towers.items),
                live=np.zeros((0, towers.settings.dimension), np.int8),
                live_scale=np.zeros(0, np.float32),
            )
            self._by_place = towers.direct.place.numpy()
            self._by_detail = towers.direct.behaviour.exp().repeat_interleave(GAP_BUCKETS).numpy()
            self._again = np.float32(towers.direct.again)

    @staticmethod
    def can_run(towers: DualTowers) -> bool:
        """Return whether these towers are of a form that can be folded."""
        return len(towers.short_tower.layers) == len(towers.long_tower.layers) == 1

    def long_of(self, histories: Histories, derived: EventFeatures, part: Part) -> Tensor:
        """Return the long vectors (B, D) of these parts."""
        events = _events(histories, derived)
        first = part.firsts[part.counts > 0]
        events.detail[first] -= derived.gap[first]  # as features.forget_before has it
        return _where_read(part, self._long(events, self._tables, part), self._towers.unseen_long)

    def short_of(self, histories: Histories, derived: EventFeatures, part: Part) -> Tensor:
        """Return the short vectors (B, D) of these parts, of live items where histories have some."""
        events, tables = self._live(histories, _events(histories, derived))
        direct = kernels.recall(events, tables, *part, self._by_place, self._by_detail, self._again)  # (B, D)
        found = torch.from_numpy(direct) + self._short(events, tables, part)  # (B, D)
        return _where_read(part, found, self._towers.unseen_short)

    def _live(self, histories: Histories, events: TowerEvents) -> tuple[TowerEvents, Tables]:
        """Return the events by their live items, and the tables with these."""
        if histories.live is None:
            return events, self._tables
        inputs = histories.live.inputs
        item = histories.live.item(events.item, len(self._tables.item))
        return events._replace(item=item), self._tables._replace(live=inputs.values, live_scale=inputs.scale)


def _lengths(items: ItemEmbedding) -> tuple[Floats, Floats]:
    """Return by what the sum of an item's and its category's row is multiplied: (I,), of unknown (C,)."""
    item_count, category_count = items.item.num_embeddings, items.category.num_embeddings
    if items.length == "free":
        return np.ones(item_count, np.float32), np.ones(category_count, np.float32)
    unknown = items.category.weight + items.item.weight[UNKNOWN]  # (C, D)
    known = torch.empty(item_count)
    for begin in range(0, item_count, AT_ONCE):
        some = slice(begin, begin + AT_ONCE)
        rows = items.item.weight[some] + items.category.weight[items.item_categories[some]]
        known[some] = _one_over_length(rows)
    return known.numpy(), _one_over_length(unknown).numpy()


def _one_over_length(rows: Tensor) -> Tensor:
    """Return (R,) of rows (R, D), as `ItemEmbedding` has it."""
    found: Tensor = torch.linalg.vector_norm(rows, dim=-1).clamp(min=SHORTEST_ENTERING).reciprocal()
    return found


def _events(histories: Histories, derived: EventFeatures) -> TowerEvents:
    detail = histories.behaviour * np.int64(GAP_BUCKETS) + derived.gap
    return TowerEvents(histories.item, histories.category, detail, derived.session)


def _where_read(part: Part, found: Tensor, cold_start: Tensor) -> Tensor:
    return torch.where(torch.from_numpy(part.counts > 0)[:, None], found, cold_start)  # (B, D)


def _folded_attention(layer: Layer) -> tuple[Linear, Linear]:
    """Return what makes queries (H * D) of a normed event, and the layer's output of what each head sees."""
    heads, dimension = layer.heads, layer.query.in_features
    gain, shift = layer.norm.weight.double(), layer.norm.bias.double()  # (D,)
    key, value = layer.key_value.weight.double().view(2, heads, -1, dimension)  # (H, D/H, D) each
    ask = layer.query.weight.double()  # (D, D)
    ask_bias = ask @ shift + layer.query.bias  # (D,)
    to_key = key * gain * (dimension // heads) ** -0.5  # (H, D/H, D)
    query = torch.einsum("hke,hkd->hed", to_key, (ask * gain).view(heads, -1, dimension))  # (H, D, D)
    query_bias = torch.einsum("hke,hk->he", to_key, ask_bias.view(heads, -1))  # (H, D)
    # What the keys' own shift and bias add to a query's scores is the same in all of them: softmax drops it.
    put = layer.output.weight.double()  # (D, D)
    output = torch.einsum("ohk,hke->ohe", put.view(dimension, heads, -1), value * gain)  # (D, H, D)
    value_bias = value.view(dimension, dimension) @ shift + layer.key_value.bias[dimension:]  # (D,)
    output_bias = put @ value_bias + layer.output.bias  # (D,)
    return (
        Linear(query.view(-1, dimension).float(), query_bias.flatten().float()),
        Linear(output.flatten(1).float(), output_bias.float()),
    )


def _behind_norm(norm: nn.LayerNorm, linear: nn.Linear) -> Linear:
    """Return the linear map with the norm's gain and shift inside it."""
    return Linear(linear.weight * norm.weight, linear.bias + linear.weight @ norm.bias)


def _normed(vectors: Tensor) -> Tensor:
    return functional.layer_norm(vectors, vectors.shape[1:])
