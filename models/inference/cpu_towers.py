"""Events -> the towers' vectors on a CPU: those of `DualTowers` (up to 1e-5) at a small part of the cost.

Only the newest event is asked for in a tower's last layer, so the projections to keys and values, which the
layer makes for every event, are folded into what is made once per user:

    score_t = (W_q x_n) . (W_k x_t) = (W_k' W_q x_n) . x_t        sum_t a_t W_v x_t = W_v (sum_t a_t x_t)

with the gains of the norms inside the folded matrices. What is left per event is in kernels.py: no padding,
and a user's vector does not depend on who else is encoded. Needs no torch.
"""

from functools import cache
from typing import NamedTuple

import numpy as np

from models.arrays import Floats, Ints
from models.ids.vocabulary_file import FIRST_KNOWN, UNKNOWN
from models.inference import kernels
from models.inference.kernels import Tables, TowerEvents
from models.quantised import Bytes8, dequantised
from models.towers.histories import GAP_BUCKETS, EventFeatures, FeatureSettings, Part, TowerSpans
from models.towers.settings import DISTANCE_BUCKETS, SHORTEST_ENTERING
from models.towers.weights import TowerWeights
from models.windows.histories import Histories
from models.windows.live_inputs import LiveInputs

#: Items whose lengths are found at a time: there may be millions.
AT_ONCE = 65_536
#: Rows and columns of a product that uses all of the memory that OpenBLAS packs matrices into.
PACKED = 512


class Linear(NamedTuple):
    """weight (out, in) and bias (out,) of a linear map."""

    weight: Floats
    bias: Floats

    def __call__(self, value: Floats) -> Floats:
        """Return (B, out) of (B, in)."""
        return value @ self.weight.T + self.bias


class CpuTower:
    """A tower of one layer, asked at the newest event alone; one that training left out costs nothing."""

    def __init__(self, weights: TowerWeights, name: str, reach: int) -> None:
        """name: short or long; reach: how many events it reads."""
        tower, layer = f"{name}_tower.", f"{name}_tower.layers.0."
        self.heads = weights.settings.heads
        self.query, self.output = _folded_attention(weights, layer, self.heads)
        self.wide = _behind_norm(*(_linear(weights, f"{layer}feed_forward.{place}") for place in (0, 1)))
        self.narrow = _linear(weights, f"{layer}feed_forward.4")
        scale, norm = weights[f"{name}_scale"], _linear(weights, f"{tower}norm")
        self.scale, self.shift = scale * norm.weight, scale * norm.bias
        self.by_distance = _by_distance(weights[f"{tower}biases.0.distance"], reach)
        self.by_session = np.pad(weights[f"{tower}biases.0.session"], ((1, 0), (0, 0)))
        self.is_left_out = not (self.scale.any() or self.shift.any())

    def __call__(self, events: TowerEvents, tables: Tables, part: Part) -> Floats:
        """Return the tower's vectors (B, D) of these parts of the events; of an empty one anything."""
        if self.is_left_out:
            return np.zeros((len(part.counts), len(self.scale)), np.float32)  # (B, D)
        entering, normed = kernels.newest(events, tables, *part)  # (B, D) each
        queries = self.query(normed).reshape(len(normed), self.heads, normed.shape[1])  # (B, H, D)
        seen = kernels.attend(events, tables, *part, queries, self.by_distance, self.by_session)  # (B, H, D)
        residual = self.output(seen.reshape(-1, self.output.weight.shape[1])) + entering  # (B, D)
        residual += self.narrow(kernels.gelu(self.wide(kernels.normed(residual))))  # (B, D)
        found: Floats = kernels.normed(residual) * self.scale + self.shift  # (B, D)
        return found

    def attention(self, events: TowerEvents, tables: Tables, part: Part) -> Floats | None:
        """Return what one user's part (T,) weighs, seen from its newest event; None: nothing enters."""
        if self.is_left_out:
            return None
        first, count = int(part.firsts[0]), int(part.counts[0])
        if not count:
            return np.zeros(0, np.float32)
        each = np.arange(first, first + count)
        _, normed = kernels.newest(events, tables, each, np.ones(count, np.int64))  # (T, D)
        queries = self.query(normed[-1:]).reshape(self.heads, -1)  # (H, D)
        session = events.session[each]
        apart = np.minimum(session[-1] - session, len(self.by_session) - 1)  # (T,)
        scores = queries @ normed.T + (self.by_distance[:count][::-1] + self.by_session[apart]).T  # (H, T)
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        found: Floats = (weights / weights.sum(axis=1, keepdims=True)).mean(axis=0)
        return found


class CpuTowers:
    """Dual towers whose Transformers have one layer each, for encoding on a CPU."""

    reads_live = True

    def __init__(self, weights: TowerWeights, features: FeatureSettings) -> None:
        _touch_packing_memory()
        self._short = CpuTower(weights, "short", features.short_events)
        self._long = CpuTower(weights, "long", features.long_events)
        self._cold_start = weights["unseen_short"], weights["unseen_long"]
        #: How many items were trained, from whose number on indices are those of live ones.
        self._items = len(weights.item_categories)
        self._joined: tuple[LiveInputs, Tables] | None = None
        detail = weights["behaviour.weight"][:, None] + weights["gap.weight"]  # (behaviours, GAP_BUCKETS, D)
        self._tables = Tables(
            weights["items.item.weight"],
            weights["items.category.weight"],
            detail.reshape(-1, detail.shape[-1]),
            *_lengths(weights),
            *_byte_rows(weights),
        )
        self._by_place = weights["direct.place"]
        self._by_detail = np.exp(weights["direct.behaviour"]).repeat(GAP_BUCKETS)
        self._again = np.float32(weights["direct.again"])

    @staticmethod
    def can_run(weights: TowerWeights) -> bool:
        """Return whether these towers are of a form that can be folded."""
        return weights.settings.long_layers == 1

    def long_of(self, histories: Histories, derived: EventFeatures, part: Part) -> Floats:
        """Return the long vectors (B, D) of these parts."""
        events = self._forgetting(histories, derived, part)
        return _where_read(part, self._long(events, self._tables, part), self._cold_start[1])

    def short_of(self, histories: Histories, derived: EventFeatures, part: Part) -> Floats:
        """Return the short vectors (B, D) of these parts, of live items where histories have some."""
        events, tables = self._live(histories, _events(histories, derived))
        direct = kernels.recall(events, tables, *part, self._by_place, self._by_detail, self._again)  # (B, D)
        return _where_read(part, direct + self._short(events, tables, part), self._cold_start[0])

    def event_weights(
        self, history: Histories, spans: TowerSpans
    ) -> tuple[Floats, Floats | None, Floats | None]:
        """Return what each of one user's events weighs in the direct path, the short and the long tower (E,).

        None where training left a tower out; see `EventWeights`.
        """
        count = len(history.item)
        direct = spans.short.placed(self._direct(history, spans), count)
        events, tables = self._live(history, _events(history, spans.derived))
        short = self._short.attention(events, tables, spans.short)
        events = self._forgetting(history, spans.derived, spans.long)
        long = self._long.attention(events, self._tables, spans.long)
        return (
            direct,
            None if short is None else spans.short.placed(short, count),
            None if long is None else spans.long.placed(long, count),
        )

    def _direct(self, history: Histories, spans: TowerSpans) -> Floats:
        """Return by what `kernels.recall` multiplies each item of one user's short part (T,)."""
        first, count = int(spans.short.firsts[0]), int(spans.short.counts[0])
        part = slice(first, first + count)
        item, session = history.item[part], spans.derived.session[part]
        weights = self._by_place[:count][::-1][np.arange(count), (session == session[-1:]).astype(np.int64)]
        weights = weights * self._by_detail[_events(history, spans.derived).detail[part]]
        comes_again = np.array([known in item[at + 1 :] for at, known in enumerate(item)], np.bool_)
        found: Floats = np.where(comes_again & (item >= FIRST_KNOWN), weights * self._again, weights)
        return found

    def _forgetting(self, histories: Histories, derived: EventFeatures, part: Part) -> TowerEvents:
        """Return the events, as features.forget_before has what was before a part."""
        events = _events(histories, derived)
        first = part.firsts[part.counts > 0]
        events.detail[first] -= derived.gap[first]
        return events

    def _live(self, histories: Histories, events: TowerEvents) -> tuple[TowerEvents, Tables]:
        """Return the events by their live items, and the tables with these."""
        if histories.live is None:
            return events, self._tables
        item = histories.live.item(events.item, self._items)
        return events._replace(item=item), self._tables_with(histories.live.inputs)

    def _tables_with(self, inputs: LiveInputs) -> Tables:
        """Return the tables with live inputs, behind the trained items that are bytes; kept for the next."""
        if self._joined is None or self._joined[0] is not inputs:
            live, scale = inputs.values, inputs.scale
            if len(self._tables.live):
                live = np.concatenate([self._tables.live, live])
                scale = np.concatenate([self._tables.live_scale, scale])
            self._joined = inputs, self._tables._replace(live=live, live_scale=scale)
        return self._joined[1]


@cache
def _touch_packing_memory() -> None:
    """Have OpenBLAS use all of its packing memory once.

    Its kernels prefetch behind what they have packed. Where the system has not given those pages yet, each
    of the products of an encoding takes three times as long, for ever: they are too small to get there.
    """
    square = np.ones((PACKED, PACKED), np.float32)
    np.matmul(square, square)


def _linear(weights: TowerWeights, name: str) -> Linear:
    return Linear(weights[f"{name}.weight"], weights[f"{name}.bias"])


def _byte_rows(weights: TowerWeights) -> tuple[Bytes8, Floats]:
    """Return the known items that a compressed model has as bytes, as they enter: rows (., D) and scales."""
    if weights.entering is None:
        return np.zeros((0, weights.settings.dimension), np.int8), np.zeros(0, np.float32)
    rows, scale = weights.entering
    if weights.settings.item_length == "free":
        return rows, scale
    length = np.empty_like(scale)
    for begin in range(0, len(rows), AT_ONCE):
        some = slice(begin, begin + AT_ONCE)
        length[some] = _one_over_length(dequantised(rows[some], scale[some]))
    return rows, scale * length


def _lengths(weights: TowerWeights) -> tuple[Floats, Floats]:
    """Return by what the sum of an item's and its category's row is multiplied: (I,), of unknown (C,).

    Of a compressed model the items are those that are unknown, which have a length by their category alone.
    """
    item, category = weights["items.item.weight"], weights["items.category.weight"]
    if weights.settings.item_length == "free":
        return np.ones(len(item), np.float32), np.ones(len(category), np.float32)
    known = np.empty(len(item), np.float32)
    for begin in range(0, len(item), AT_ONCE):
        some = slice(begin, begin + AT_ONCE)
        of_category = category[weights.item_categories[: len(item)][some]]
        known[some] = _one_over_length(item[some] + of_category)
    return known, _one_over_length(category + item[UNKNOWN])


def _one_over_length(rows: Floats) -> Floats:
    """Return (R,) of rows (R, D), as `ItemEmbedding` has it."""
    found: Floats = 1 / np.maximum(np.linalg.norm(rows, axis=1), np.float32(SHORTEST_ENTERING))
    return found


def _by_distance(of_bucket: Floats, reach: int) -> Floats:
    """Return a bias's terms by events back, (reach, H), of those by bucket; see `AttentionBias`."""
    bucket = np.log2(np.arange(reach, dtype=np.float32) + 1).astype(np.int64)
    return of_bucket[np.minimum(bucket, DISTANCE_BUCKETS - 1)]


def _events(histories: Histories, derived: EventFeatures) -> TowerEvents:
    detail: Ints = histories.behaviour * np.int64(GAP_BUCKETS) + derived.gap
    return TowerEvents(histories.item, histories.category, detail, derived.session)


def _where_read(part: Part, found: Floats, cold_start: Floats) -> Floats:
    return np.where(part.counts[:, None] > 0, found, cold_start)  # (B, D)


def _folded_attention(weights: TowerWeights, layer: str, heads: int) -> tuple[Linear, Linear]:
    """Return what makes queries (H * D) of a normed event, and the layer's output of what each head sees."""
    gain, shift = (weights[f"{layer}norm.{name}"].astype(np.float64) for name in ("weight", "bias"))  # (D,)
    dimension = len(gain)
    key_value, asking, putting = (
        _linear(weights, f"{layer}{name}") for name in ("key_value", "query", "output")
    )
    key, value = key_value.weight.astype(np.float64).reshape(2, heads, -1, dimension)  # (H, D/H, D) each
    ask = asking.weight.astype(np.float64)  # (D, D)
    ask_bias = ask @ shift + asking.bias  # (D,)
    to_key = key * gain * (dimension // heads) ** -0.5  # (H, D/H, D)
    query = np.einsum("hke,hkd->hed", to_key, (ask * gain).reshape(heads, -1, dimension))  # (H, D, D)
    query_bias = np.einsum("hke,hk->he", to_key, ask_bias.reshape(heads, -1))  # (H, D)
    # What the keys' own shift and bias add to a query's scores is the same in all of them: softmax drops it.
    put = putting.weight.astype(np.float64)  # (D, D)
    output = np.einsum("ohk,hke->ohe", put.reshape(dimension, heads, -1), value * gain)  # (D, H, D)
    value_bias = value.reshape(dimension, dimension) @ shift + key_value.bias[dimension:]  # (D,)
    output_bias = put @ value_bias + putting.bias  # (D,)
    return (
        Linear(_single(query.reshape(-1, dimension)), _single(query_bias.ravel())),
        Linear(_single(output.reshape(dimension, -1)), _single(output_bias)),
    )


def _single(values: "np.typing.NDArray[np.float64]") -> Floats:
    return values.astype(np.float32)


def _behind_norm(norm: Linear, linear: Linear) -> Linear:
    """Return the linear map with the norm's gain and shift inside it."""
    return Linear(linear.weight * norm.weight, linear.bias + linear.weight @ norm.bias)
