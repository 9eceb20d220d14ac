"""What each event of a user weighs in the towers, as PyTorch has it: see also `CpuTowers.event_weights`."""

import math
from dataclasses import replace
from typing import cast

import numpy as np
import torch
from torch import Tensor

from models.arrays import Floats
from models.encoder import EventWeights
from models.towers.dual_towers import DualTowers, last_place
from models.towers.features import Tokens, forget_before, pad
from models.towers.histories import FeatureSettings, Part, tower_spans
from models.towers.layers import AttentionBias, Embedded, Layer, Tower, at_places
from models.towers.live_items import with_live_items
from models.windows.histories import Histories


@torch.inference_mode()
def event_weights(towers: DualTowers, history: Histories, settings: FeatureSettings) -> EventWeights:
    """Return what the events of one user weigh, where they have live items by these."""
    spans, events = tower_spans(history, settings), len(history.item)
    reading, live = with_live_items(towers, history)
    short = pad(live, spans.derived, *spans.short)
    long = forget_before(pad(history, spans.derived, *spans.long))
    both = torch.cat([reading.short_of(short), towers.long_of(long)], dim=-1)  # (1, 2D)
    return EventWeights(
        float(torch.sigmoid(towers.gate(both))),
        spans.short.placed(_direct(reading, short), events),
        _of_tower(reading, towers.short_tower, towers.short_scale, short, spans.short, events),
        _of_tower(towers, towers.long_tower, towers.long_scale, long, spans.long, events),
    )


def direct_weights(towers: DualTowers, tokens: Tokens) -> Tensor:
    """Return the weights (B, T) of the direct path: what it makes of items that are all at right angles."""
    count = tokens.item.shape[1]
    events, (_, query) = towers.embed(tokens), last_place(tokens)
    told_apart = replace(events, items=torch.eye(count).expand(len(tokens.item), -1, -1))  # (B, T, T)
    found: Tensor = towers.direct(told_apart, query, torch.zeros_like(query))[:, 0]
    return found


def tower_attention(tower: Tower, events: Embedded, query: Tensor) -> Tensor:
    """Return the weights (B, H, T) that a tower's last layer gives its events, seen from query (B, 1)."""
    layer, bias = cast(Layer, tower.layers[-1]), cast(AttentionBias, tower.biases[-1])
    normed = layer.norm(tower.below_last(events))  # (B, T, D)
    asking = layer.split(layer.query(at_places(normed, query)))  # (B, H, 1, D/H)
    key = layer.split(layer.key_value(normed).chunk(2, -1)[0])  # (B, H, T, D/H)
    seen = bias(query, torch.zeros_like(query), events.session)  # (B, H, 1, T)
    weights: Tensor = (asking @ key.mT / math.sqrt(key.shape[-1]) + seen).softmax(dim=-1)[:, :, 0]
    return weights  # (B, H, T)


def _direct(towers: DualTowers, tokens: Tokens) -> Floats:
    """Return the direct path's weights (T,) of one user."""
    if not tokens.item.shape[1]:
        return np.zeros(0, np.float32)
    return np.asarray(direct_weights(towers, tokens)[0].numpy())


def _of_tower(
    towers: DualTowers, tower: Tower, scale: Tensor, tokens: Tokens, part: Part, events: int
) -> Floats | None:
    """Return a tower's weights (events,), None where it is left out."""
    if not (scale * tower.norm.weight).any() and not (scale * tower.norm.bias).any():
        return None
    if not tokens.item.shape[1]:
        return np.zeros(events, np.float32)
    by_head = tower_attention(tower, towers.embed(tokens), last_place(tokens)[1])[0]  # (H, T)
    return part.placed(np.asarray(by_head.mean(dim=0).numpy()), events)
