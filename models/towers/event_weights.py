"""What each event of a user weighs in the towers: in the direct path, and in either tower's attention."""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from models.arrays import Floats
from models.towers.dual_towers import DualTowers, last_place
from models.towers.features import Tokens, forget_before, pad
from models.towers.histories import FeatureSettings, Part, tower_spans
from models.towers.layers import Embedded, Layer, Tower, at_places
from models.windows.histories import Histories


@dataclass(frozen=True, slots=True)
class EventWeights:
    """Of one user's E events: direct, short, long (E,); 0 where a tower does not read the event.

    `direct` is by what each item is multiplied in the direct path's sum. `short` and `long` are a tower's
    attention at the newest event it reads, in its last layer, the mean of its heads: they sum to 1. None
    where training left the tower out, so that nothing of it enters the vector.
    """

    #: How much of the user's vector is the short tower's, direct path included; the rest is the long tower's.
    short_share: float
    direct: Floats
    short: Floats | None
    long: Floats | None


@torch.inference_mode()
def event_weights(towers: DualTowers, history: Histories, settings: FeatureSettings) -> EventWeights:
    """Return what the events of one user weigh."""
    spans, events = tower_spans(history, settings), len(history.item)
    short = pad(history, spans.derived, *spans.short)
    long = forget_before(pad(history, spans.derived, *spans.long))
    both = torch.cat([towers.short_of(short), towers.long_of(long)], dim=-1)  # (1, 2D)
    return EventWeights(
        float(torch.sigmoid(towers.gate(both))),
        _placed(_direct(towers, short), spans.short, events),
        _of_tower(towers, towers.short_tower, towers.short_scale, short, spans.short, events),
        _of_tower(towers, towers.long_tower, towers.long_scale, long, spans.long, events),
    )


def _direct(towers: DualTowers, tokens: Tokens) -> Floats:
    """Return the direct path's weights (T,): what it makes of items that are all at right angles."""
    count = tokens.item.shape[1]
    if not count:
        return np.zeros(0, np.float32)
    events, (_, last) = towers.embed(tokens), last_place(tokens)
    told_apart = replace(events, items=torch.eye(count)[None])
    return np.asarray(towers.direct(told_apart, last, torch.zeros_like(last))[0, 0].numpy())


def _of_tower(
    towers: DualTowers, tower: Tower, scale: Tensor, tokens: Tokens, part: Part, events: int
) -> Floats | None:
    """Return a tower's weights (events,), None where it is left out."""
    if not (scale * tower.norm.weight).any() and not (scale * tower.norm.bias).any():
        return None
    if not tokens.item.shape[1]:
        return np.zeros(events, np.float32)
    return _placed(tower_attention(tower, towers.embed(tokens), tokens), part, events)


def tower_attention(tower: Tower, events: Embedded, tokens: Tokens) -> Floats:
    """Return what the newest event of one user attends to (T,), in a tower's last layer."""
    last = last_place(tokens)[1]
    bias = tower.biases[-1](last, torch.zeros_like(last), events.session)  # (1, H, 1, T)
    weights = _attention(tower.layers[-1], tower.below_last(events), last, bias)  # type: ignore[arg-type]
    return np.asarray(weights[0, :, 0].mean(dim=0).numpy())


def _attention(layer: Layer, events: Tensor, query: Tensor, bias: Tensor) -> Tensor:
    """Return the weights (B, H, Q, T) by which `Layer` mixes the values of events (B, T, D)."""
    normed = layer.norm(events)  # (B, T, D)
    key, _ = layer.key_value(normed).chunk(2, dim=-1)  # (B, T, D)
    asking, keys = layer.split(layer.query(at_places(normed, query))), layer.split(key)  # (B, H, ., D/H)
    return torch.softmax(asking @ keys.mT / math.sqrt(keys.shape[-1]) + bias, dim=-1)


def _placed(weights: Floats, part: Part, events: int) -> Floats:
    """Return the weights of a part of a user's events, at their places among all of them."""
    placed = np.zeros(events, np.float32)
    first, count = int(part.firsts[0]), int(part.counts[0])
    placed[first : first + count] = weights[:count]
    return placed
