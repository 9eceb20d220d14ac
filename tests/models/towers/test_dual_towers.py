"""Towers: training sees at each place exactly what encoding will see, and never what comes after."""

from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from models.ids.vocabulary import Vocabulary
from models.ids.vocabulary_file import FIRST_KNOWN
from models.towers.dual_towers import DualTowers, TowerVectors
from models.towers.features import features, pad
from models.towers.histories import FeatureSettings, event_features
from models.towers.layers import Dropout
from models.towers.settings import ModelSettings
from models.windows.histories import Histories

Split = Literal["session", "ratio"]
ITEMS = 200
VOCABULARY = Vocabulary([str(n) for n in range(ITEMS)], [2 + n % 4 for n in range(ITEMS)], list("abcd"))


def towers_of(chosen: FeatureSettings, long_layers: int = 1) -> DualTowers:
    torch.manual_seed(0)
    towers = DualTowers(VOCABULARY, chosen, ModelSettings(dimension=16, long_layers=long_layers)).eval()
    with torch.no_grad():
        for parameter in towers.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return towers


def history(length: int) -> Histories:
    random = np.random.default_rng(length)
    return Histories(
        item=random.permutation(ITEMS)[:length] + FIRST_KNOWN,
        category=random.integers(2, 6, length),
        behaviour=random.integers(1, 5, length).astype(np.uint8),
        time_ms=np.cumsum(random.choice([0, 60_000, 4_000_000, 90_000_000], length)),
        starts=np.array([0, length]),
    )


def until(whole: Histories, end: int) -> Histories:
    rows = slice(0, end)
    return Histories(
        whole.item[rows], whole.category[rows], whole.behaviour[rows], whole.time_ms[rows], np.array([0, end])
    )


def every_place(towers: DualTowers, whole: Histories, chosen: FeatureSettings) -> TowerVectors:
    derived = event_features(whole, chosen)
    tokens = pad(whole, derived, whole.starts[:-1], np.diff(whole.starts))
    boundary, first = torch.from_numpy(derived.boundary)[None], torch.from_numpy(derived.short_start)[None]
    with torch.inference_mode():
        return towers.forward_every(tokens, boundary, first, torch.ones(boundary.shape, dtype=torch.bool))


@pytest.mark.parametrize("split", ["session", "ratio"])
@pytest.mark.parametrize("long_layers", [1, 2])
def test_training_sees_at_each_place_what_encoding_sees(split: Split, long_layers: int) -> None:
    chosen = FeatureSettings(split=split)
    towers, whole = towers_of(chosen, long_layers), history(90)
    trained = every_place(towers, whole, chosen)
    with torch.inference_mode():
        for end in range(1, 91):
            encoded = towers(features(until(whole, end), chosen))
            for name in ("user", "long", "short"):
                torch.testing.assert_close(
                    getattr(trained, name)[end - 1], getattr(encoded, name)[0], atol=1e-5, rtol=0
                )


def places_that_know(vectors: list[Tensor]) -> list[int]:
    """Return the places whose vector differs between two histories."""
    before, after = vectors
    return torch.nonzero((before - after).abs().amax(dim=1) > 1e-6).flatten().tolist()


@pytest.mark.parametrize("place", [1, 30, 69])
def test_planted_target_is_known_only_from_its_own_place_on(place: int) -> None:
    """The vector at `place - 1` is asked for the event at `place`: another there must not change it."""
    chosen = FeatureSettings()
    towers, whole = towers_of(chosen), history(70)
    item = whole.item.copy()
    item[place] = next(other for other in range(FIRST_KNOWN, FIRST_KNOWN + ITEMS) if other not in item)
    planted = Histories(item, whole.category, whole.behaviour, whole.time_ms, whole.starts)
    seen = [every_place(towers, given, chosen).user for given in (whole, planted)]
    assert min(places_that_know(seen)) == place
    leaking = [vectors.roll(-1, dims=0) for vectors in seen]
    assert min(places_that_know(leaking)) == place - 1, "the check itself must catch a leak"


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_before_training_an_item_scores_itself_as_users_return(share: float) -> None:
    """Output is a share of the input plus a difference that starts at 0, so returning needs no learning."""
    torch.manual_seed(0)
    towers = DualTowers(VOCABULARY, FeatureSettings(), ModelSettings(dimension=64)).eval()
    towers.items.expect_returns(share)
    once = until(history(5), 1)
    with torch.inference_mode():
        scores = (towers(features(once, FeatureSettings())).user @ towers.item_vectors().T)[0]
    own = scores[once.item[0] - FIRST_KNOWN]
    assert own == (scores.max() if share else 0)


def test_an_item_needs_not_score_itself_high_once_its_share_has_fallen() -> None:
    torch.manual_seed(0)
    towers = DualTowers(VOCABULARY, FeatureSettings(), ModelSettings(dimension=64)).eval()
    once = until(history(5), 1)
    with torch.inference_mode():
        towers.items.share.fill_(-1)
        scores = towers(features(once, FeatureSettings())).user @ towers.item_vectors().T
    assert scores.argmin().item() == once.item[0] - FIRST_KNOWN


def test_dropout_keeps_the_mean_and_does_nothing_when_encoding() -> None:
    torch.manual_seed(0)
    dropout, ones = Dropout(0.25), torch.ones(100, 999)
    dropped = dropout(ones)
    assert sorted(dropped.unique().tolist()) == pytest.approx([0, 4 / 3])
    assert dropped.mean().item() == pytest.approx(1, abs=0.01)
    assert dropped[:, ::8].mean().item() == pytest.approx(1, abs=0.02)
    assert dropout.eval()(ones) is ones


def test_direct_path_alone_is_what_the_towers_give_before_they_learn() -> None:
    chosen, whole = FeatureSettings(), history(60)
    torch.manual_seed(0)
    towers = DualTowers(VOCABULARY, chosen, ModelSettings(dimension=16)).eval()
    with torch.no_grad():
        towers.unseen_long.normal_()
    derived = event_features(whole, chosen)
    tokens = pad(whole, derived, whole.starts[:-1], np.diff(whole.starts))
    boundary, first = torch.from_numpy(derived.boundary)[None], torch.from_numpy(derived.short_start)[None]
    with torch.inference_mode():
        alone = towers.forward_direct(tokens, boundary, first, torch.ones(boundary.shape, dtype=torch.bool))
    torch.testing.assert_close(alone, every_place(towers, whole, chosen).user)


def test_batch_in_which_nothing_is_wanted_gives_no_vectors() -> None:
    chosen = FeatureSettings()
    towers, whole = towers_of(chosen, 1), history(9)
    derived = event_features(whole, chosen)
    tokens = pad(whole, derived, whole.starts[:-1], np.diff(whole.starts))
    boundary, first = torch.from_numpy(derived.boundary)[None], torch.from_numpy(derived.short_start)[None]
    nothing = torch.zeros(boundary.shape, dtype=torch.bool)
    assert len(towers.forward_every(tokens, boundary, first, nothing).user) == 0
    assert len(towers.forward_direct(tokens, boundary, first, nothing)) == 0
