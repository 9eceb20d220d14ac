"""The weights shown are those that the towers use, each at the place of its event."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.ids.vocabulary import Vocabulary
from models.ids.vocabulary_file import FIRST_KNOWN
from models.towers.dual_towers import DualTowers
from models.towers.event_weights import tower_attention
from models.towers.features import features
from models.towers.histories import FeatureSettings
from models.towers.layers import Layer
from models.towers.settings import ModelSettings
from models.windows.histories import Histories
from offline.evaluation.attention import attention

ITEMS = 20
SETTINGS = FeatureSettings(short_events=4, long_events=12)


def histories_of(counts: list[int]) -> Histories:
    random = np.random.default_rng(0)
    return Histories(
        item=random.integers(FIRST_KNOWN, FIRST_KNOWN + ITEMS, sum(counts)),
        category=np.full(sum(counts), FIRST_KNOWN),
        behaviour=random.integers(1, 5, sum(counts)).astype(np.uint8),
        time_ms=np.concatenate([np.arange(count) * 700_000 for count in counts]).astype(np.int64),
        starts=np.concatenate(([0], np.cumsum(counts))),
    )


@pytest.fixture(params=[1, 2])
def towers(request: pytest.FixtureRequest) -> DualTowers:
    torch.manual_seed(0)
    vocabulary = Vocabulary([str(item) for item in range(ITEMS)], [FIRST_KNOWN] * ITEMS, ["c"])
    towers = DualTowers(vocabulary, SETTINGS, ModelSettings(dimension=8, long_layers=request.param))
    with torch.no_grad():
        for parameter in towers.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    return towers.eval()


@torch.inference_mode()
def test_weights_give_what_the_tower_gives(towers: DualTowers) -> None:
    tokens = features(histories_of([9, 16]), SETTINGS).long
    query, tower = (tokens.count - 1)[:, None], towers.long_tower
    events = towers.embed(tokens)
    seen = tower_attention(tower, events, query)  # (B, H, T)
    torch.testing.assert_close(seen.sum(-1), torch.ones(2, 2))
    last = tower.layers[-1]
    assert isinstance(last, Layer)
    hidden = events.events
    for bias, layer in zip(tower.biases[:-1], tower.layers[:-1], strict=True):
        every = torch.arange(hidden.shape[1])[None]
        hidden = layer(hidden, None, bias(every, torch.zeros_like(tokens.session), tokens.session))
    value = last.key_value(last.norm(hidden)).chunk(2, -1)[1].view(2, -1, 2, 4)  # (B, T, H, D/H)
    mixed = torch.einsum("bht,bthd->bhd", seen, value).flatten(1)[:, None]
    residual = hidden.gather(1, query[..., None].expand(-1, -1, 8)) + last.output(mixed)
    found = tower.norm(residual + last.feed_forward(residual))
    torch.testing.assert_close(found, tower(events, query, torch.zeros_like(query)))


def test_each_part_reads_where_its_events_are(towers: DualTowers) -> None:
    found = attention(towers, SETTINGS, histories_of([3, 30]))
    assert list(found) == [
        "direct path", *(f"{tower} tower, head {head}" for tower in ("short", "long") for head in (1, 2)),
    ]  # fmt: skip
    assert all(weights.shape == (30,) for weights in found.values())
    assert np.flatnonzero(~np.isnan(found["short tower, head 1"])).tolist() == [0, 1, 2, 3]
    long = np.flatnonzero(~np.isnan(found["long tower, head 2"]))
    assert long.tolist() == list(range(long[0], long[0] + 12))
    assert 1 <= long[0] <= 4
    alone = attention(towers, SETTINGS, histories_of([30]))
    assert np.nansum(alone["long tower, head 1"]) == pytest.approx(1)


def test_direct_path_is_its_learned_weights(towers: DualTowers) -> None:
    whole = histories_of([4])
    whole = replace(whole, time_ms=np.arange(4) * 1000, behaviour=np.full(4, 2, np.uint8))  # one session
    found = attention(towers, SETTINGS, whole)["direct path"]
    expected = towers.direct.place[:4, 1] * towers.direct.behaviour[2].exp()
    np.testing.assert_allclose(found, expected.detach().numpy(), rtol=1e-5)


def test_nobody_with_events_has_no_weights(towers: DualTowers) -> None:
    assert attention(towers, SETTINGS, histories_of([0])) == {}
