"""What events weigh is what really enters the towers: the weights make the towers' own vectors again."""

import numpy as np
import pytest
import torch

from models.encoder import Vectors
from models.ids.vocabulary import Vocabulary
from models.inference.influence import influence
from models.inference.tower_model import TowerModel
from models.towers.dual_towers import DualTowers, last_place
from models.towers.event_weights import event_weights, tower_attention
from models.towers.features import features
from models.towers.histories import FeatureSettings
from models.towers.layers import Layer, at_places
from models.towers.settings import ModelSettings
from models.windows.histories import Histories

VOCABULARY = Vocabulary([str(n) for n in range(50)], [2] * 50, ["a"])
CHOSEN = FeatureSettings(short_events=5, long_events=8)


def towers_of(layers: int = 1, scale: float = 0.3) -> DualTowers:
    torch.manual_seed(0)
    towers = DualTowers(VOCABULARY, CHOSEN, ModelSettings(16, heads=1, long_layers=layers)).eval()
    with torch.no_grad():
        for parameter in towers.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
        for each in (towers.short_scale, towers.long_scale):
            each.fill_(scale)
    return towers


def history(length: int) -> Histories:
    random = np.random.default_rng(length)
    return Histories(
        item=random.integers(2, 50, length),
        category=np.full(length, 2),
        behaviour=random.integers(1, 5, length).astype(np.uint8),
        time_ms=np.cumsum(random.choice([60_000, 9_000_000], length)),
        starts=np.array([0, length]),
    )


@pytest.mark.parametrize("length", [1, 4, 30])
@torch.inference_mode()
def test_direct_weights_make_the_direct_path_again(length: int) -> None:
    towers, whole = towers_of(), history(length)
    weights = event_weights(towers, whole, CHOSEN).direct
    items = towers.items(torch.from_numpy(whole.item), torch.from_numpy(whole.category))
    tokens = features(whole, CHOSEN).short
    last = last_place(tokens)[1]
    expected = towers.direct(towers.embed(tokens), last, torch.zeros_like(last))[0, 0]
    assert np.allclose(weights @ items.numpy(), expected.numpy(), atol=1e-5)
    assert not weights[: max(length - CHOSEN.short_events, 0)].any()


@pytest.mark.parametrize("layers", [1, 2])
@torch.inference_mode()
def test_attention_makes_the_tower_again(layers: int) -> None:
    towers, tokens = towers_of(layers), features(history(30), CHOSEN).long
    events, (_, last) = towers.embed(tokens), last_place(tokens)
    weights = tower_attention(towers.long_tower, events, last)  # (1, 1, T)
    layer, below = towers.long_tower.layers[-1], towers.long_tower.below_last(events)
    assert isinstance(layer, Layer)
    value = layer.key_value(layer.norm(below)).chunk(2, dim=-1)[1]
    residual = at_places(below, last) + layer.output(weights @ value)
    made = towers.long_tower.norm(residual + layer.feed_forward(residual))
    assert torch.allclose(made, towers.long_tower(events, last, torch.zeros_like(last)), atol=1e-5)


def test_attention_stands_at_its_events_and_is_none_where_training_left_the_tower_out() -> None:
    found = event_weights(towers_of(), history(30), CHOSEN)
    assert found.short is not None and found.long is not None
    assert found.short.sum() == pytest.approx(1, abs=1e-5) and not found.short[:25].any()
    assert found.long.sum() == pytest.approx(1, abs=1e-5) and (found.long > 0).sum() <= 8
    left_out = event_weights(towers_of(scale=0.0), history(30), CHOSEN)
    assert left_out.short is None and left_out.long is None and left_out.direct.any()


@pytest.mark.parametrize("length", [0, 1, 4, 30])
def test_on_a_cpu_they_are_those_of_pytorch(length: int) -> None:
    for scale in (0.3, 0.0):
        towers, whole = towers_of(scale=scale), history(length)
        expected = event_weights(towers, whole, CHOSEN)
        found = TowerModel.of(towers, CHOSEN).on_cpu().event_weights(whole)
        assert found is not None
        assert found.short_share == pytest.approx(expected.short_share, abs=1e-5)
        for name in ("direct", "short", "long"):
            ours, theirs = getattr(found, name), getattr(expected, name)
            assert (ours is None) == (theirs is None)
            if ours is not None:
                np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert TowerModel.of(towers_of(layers=2), CHOSEN).on_cpu().event_weights(history(length)) is None


def test_nobody_has_no_weights() -> None:
    found = event_weights(towers_of(), history(0), CHOSEN)
    assert [len(found.direct), len(influence(TowerModel.of(towers_of(), CHOSEN).on_cpu(), history(0)))] == [
        0,
        0,
    ]


def test_influence_of_what_no_tower_reads_is_none() -> None:
    found = influence(TowerModel.of(towers_of(), CHOSEN).on_cpu(), history(30))
    assert found[-1] > 0.01
    np.testing.assert_allclose(found[:10], 0, atol=1e-6)  # a product of matrices rounds as it likes


class Sum:
    """A model whose vector counts each of four items, so that influence is known by construction."""

    def encode(self, histories: Histories) -> Vectors:
        pairs = zip(histories.starts[:-1], histories.starts[1:], strict=True)
        rows = np.array([np.bincount(histories.item[a:b], minlength=4) for a, b in pairs], np.float32)
        return Vectors(rows, rows, rows)


def test_influence_is_how_far_the_vector_moves_of_any_model() -> None:
    three_and_four = Histories(
        np.array([1, 2, 1, 2, 1, 2, 2]),
        np.zeros(7, np.int64),
        np.ones(7, np.uint8),
        np.arange(7),
        np.array([0, 7]),
    )
    assert np.allclose(influence(Sum(), three_and_four), 0.2)  # (3, 4) is 5 long
