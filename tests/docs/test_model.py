"""The equations of docs/model.md, written down once more with NumPy, give the vectors of the code."""

import math
from typing import cast

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from models.ids.vocabulary import Vocabulary
from models.ids.vocabulary_file import FIRST_KNOWN
from models.towers.dual_towers import DualTowers
from models.towers.features import features
from models.towers.histories import FeatureSettings
from models.towers.layers import AttentionBias, Layer, Tower
from models.towers.settings import ModelSettings
from models.windows.histories import Histories
from offline.training.popularity import smoothed_share

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

ITEMS, D, H, K, N, GAP_MS = 50, 16, 2, 10, 100, 1_800_000
VOCABULARY = Vocabulary([str(n) for n in range(ITEMS)], [2 + n % 4 for n in range(ITEMS)], list("abcd"))
FEATURES = FeatureSettings(gap_ms=GAP_MS, short_events=K, long_events=N)


@pytest.fixture
def towers() -> DualTowers:
    """Give towers all of whose parameters are random, so that each of them matters."""
    torch.manual_seed(0)
    made = DualTowers(VOCABULARY, FEATURES, ModelSettings(dimension=D, heads=H)).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return made


def history(events: int) -> Histories:
    random = np.random.default_rng(events)
    return Histories(
        item=random.integers(1, FIRST_KNOWN + ITEMS // 4, events),  # few, so that some come again
        category=random.integers(1, 6, events),
        behaviour=random.integers(1, 5, events).astype(np.uint8),
        time_ms=np.cumsum(random.choice([1_000, 60_000, GAP_MS, GAP_MS + 1, 90_000_000], events)),
        starts=np.array([0, events]),
    )


def numbers(parameter: torch.Tensor | nn.Module) -> Floats:
    value = parameter.weight if isinstance(parameter, nn.Module) else parameter
    assert isinstance(value, torch.Tensor)
    found: Floats = value.detach().double().numpy()
    return found


def norm(x: Floats, layer: nn.LayerNorm) -> Floats:
    centred = x - x.mean(axis=-1, keepdims=True)
    deviation = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + layer.eps)
    normed: Floats = centred / deviation * numbers(layer.weight) + numbers(layer.bias)
    return normed


def unit(x: Floats) -> Floats:
    found: Floats = x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 0.1)
    return found


def linear(x: Floats, layer: nn.Linear) -> Floats:
    return x @ numbers(layer).T + numbers(layer.bias)


def sigmoid(x: Floats) -> Floats:
    return 1 / (1 + np.exp(-x))


def gelu(x: Floats) -> Floats:
    erf: Floats = np.vectorize(math.erf)(x / math.sqrt(2))
    return x * 0.5 * (1 + erf)


def tower(model: Tower, e: Floats, session: Ints) -> Floats:
    layer, bias = cast(Layer, model.layers[0]), cast(AttentionBias, model.biases[0])
    p, n = len(e) - 1, norm(e, layer.norm)
    q = linear(n[p], layer.query)
    k, v = np.split(linear(n, layer.key_value), 2, axis=1)
    far, apart = numbers(bias.distance), np.pad(numbers(bias.session), ((1, 0), (0, 0)))
    seen = []
    for h in range(H):
        part = slice(h * D // H, (h + 1) * D // H)
        score = k[:, part] @ q[part] / math.sqrt(D / H)
        score += [far[min(7, int(math.log2(1 + p - t))), h] for t in range(p + 1)]
        score += apart[np.minimum(3, session[p] - session), h]
        a = np.exp(score - score.max())
        seen.append(a / a.sum() @ v[:, part])
    r = e[p] + linear(np.concatenate(seen), layer.output)
    before, wide, _, _, narrow, _ = layer.feed_forward
    deep = linear(
        gelu(linear(norm(r, cast(nn.LayerNorm, before)), cast(nn.Linear, wide))), cast(nn.Linear, narrow)
    )
    return norm(r + deep, model.norm)


def by_the_book(model: DualTowers, user: Histories) -> tuple[Floats, Floats, Floats]:
    """Return the user, long and short vector of one user, as docs/model.md has them."""
    events, time_ms = len(user.item), user.time_ms
    elapsed_s = np.diff(time_ms) // 1000
    pause = np.append(0, np.minimum(25, 1 + np.floor(np.log2(1 + elapsed_s)))).astype(np.int64)
    session = np.append(0, np.cumsum(np.diff(time_ms) > GAP_MS))
    x = unit(numbers(model.items.item)[user.item] + numbers(model.items.category)[user.category])
    happened = x + numbers(model.behaviour)[user.behaviour]
    p = events - 1
    boundary = p - (p - int(np.flatnonzero(session == session[p])[0])) % K
    read = slice(max(0, events - K), events)
    w, c = numbers(model.direct.place), numbers(model.direct.behaviour)
    again = np.where([i >= FIRST_KNOWN and i in user.item[t + 1 :] for t, i in enumerate(user.item)],
                     numbers(model.direct.again), 1)  # fmt: skip
    direct = sum(
        w[p - t, int(session[t] == session[p])] * np.exp(c[user.behaviour[t]]) * again[t] * x[t]
        for t in range(read.start, read.stop)
    )
    e = happened[read] + numbers(model.gap)[pause[read]]
    short = direct + numbers(model.short_scale) * tower(model.short_tower, e, session[read])
    long = numbers(model.unseen_long)
    if boundary > 0:
        read = slice(max(0, boundary - N), boundary)
        pause[read.start] = 0
        e = happened[read] + numbers(model.gap)[pause[read]]
        long = numbers(model.long_scale) * tower(model.long_tower, e, session[read])
    m = sigmoid(linear(np.concatenate([short, long]), model.gate))
    scale, everyone = np.exp(numbers(model.temperature)), numbers(model.everyone)
    mixed, long, short = (scale * each + everyone for each in (m * short + (1 - m) * long, long, short))
    for vector in (mixed, long, short):
        vector[-1] = 2
    return mixed, long, short


@pytest.mark.parametrize("events", [1, 2, 9, 10, 11, 27, 60, 110])
def test_user_vectors_are_those_of_the_equations(towers: DualTowers, events: int) -> None:
    user = history(events)
    found = towers(features(user, FEATURES))
    expected = by_the_book(towers, user)
    for vector, wanted in zip((found.user, found.long, found.short), expected, strict=True):
        np.testing.assert_allclose(vector[0].detach().numpy(), wanted, rtol=0, atol=2e-4)


def test_item_vectors_are_those_of_the_equation(towers: DualTowers) -> None:
    of_item = towers.items.item_categories.numpy()[FIRST_KNOWN:]
    x = unit(numbers(towers.items.item)[FIRST_KNOWN:] + numbers(towers.items.category)[of_item])
    difference = numbers(towers.items.item_difference)[FIRST_KNOWN:]
    difference = difference + numbers(towers.items.category_difference)[of_item]
    expected = numbers(towers.items.share) * x + difference
    expected[:, -1] = 0
    np.testing.assert_allclose(towers.item_vectors().detach().numpy(), expected, rtol=0, atol=1e-5)
    n = np.arange(ITEMS)
    p = 0.9 * n / n.sum() + 0.1 / ITEMS
    towers.items.set_popularity(torch.from_numpy(np.log(smoothed_share(n.astype(np.float64)))))
    expected[:, -1] = numbers(towers.items.popularity_weight) * (np.log(p) - np.log(p).mean()) / 2
    np.testing.assert_allclose(towers.item_vectors().detach().numpy(), expected, rtol=0, atol=1e-5)
