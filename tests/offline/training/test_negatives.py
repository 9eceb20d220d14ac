"""Negatives are drawn as often as their correction says."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from models.ids.vocabulary import Vocabulary
from models.ids.vocabulary_file import FIRST_KNOWN, PADDING
from models.towers.dual_towers import DualTowers
from models.towers.histories import FeatureSettings
from models.towers.settings import ModelSettings
from offline.training.negatives import HardNegatives, Negatives, negative_sampler
from offline.training.objective import Objective
from offline.training.popularity import Popularity
from offline.training.settings import TrainSettings

ITEMS = 30


@pytest.mark.parametrize("power", [0.0, 0.75, 1.0])
@pytest.mark.parametrize("uniform_share", [0.0, 0.5, 1.0])
def test_draws_agree_with_what_is_expected(uniform_share: float, power: float) -> None:
    targets, weight = (
        np.repeat([2, 3, 5], [7, 40, 10]),
        np.repeat(np.array([10, 0.5, 1], np.float32), [7, 40, 10]),
    )
    sampler = negative_sampler(targets, weight, 4, 100, uniform_share, power)
    random = np.random.default_rng(0)
    drawn = torch.cat([sampler.draw(random) for _ in range(400)])
    found = np.bincount(drawn.numpy() - FIRST_KNOWN, minlength=4) / 400
    popular = np.array([70**power, 20**power, 0, 10**power])
    popular *= 100 / popular.sum()
    expected = uniform_share * 25 + (1 - uniform_share) * popular
    np.testing.assert_allclose(found, expected, atol=1)
    log_expected = sampler.log_expected(torch.tensor([2, 3, 5]))
    np.testing.assert_allclose(log_expected.exp().numpy(), expected[[0, 1, 3]], rtol=1e-4)


def test_targets_of_the_step_are_expected_as_often_as_they_occur() -> None:
    sampler = negative_sampler(np.repeat([2, 3], [9, 1]), np.ones(10, np.float32), 2, 100, 1.0)
    expected = sampler.log_expected(torch.tensor([2, 3]), targets=20).exp()
    assert expected.tolist() == pytest.approx([50 + 18, 50 + 2])


@pytest.fixture
def towers() -> DualTowers:
    torch.manual_seed(0)
    vocabulary = Vocabulary([str(item) for item in range(ITEMS)], [FIRST_KNOWN] * ITEMS, ["c"])
    return DualTowers(vocabulary, FeatureSettings(), ModelSettings(dimension=8))


def test_hard_negatives_are_those_that_score_highest_but_for_what_is_left_out(towers: DualTowers) -> None:
    user = torch.randn(5, 8)
    by_score = (user @ towers.item_vectors().T).argsort(dim=1, descending=True) + FIRST_KNOWN
    hard = HardNegatives(towers, 4)
    hard.refresh(np.random.default_rng(0))
    left_out = by_score[:, [0, 2]]
    found = hard.find(user, torch.nn.functional.pad(left_out, (0, 1)))
    assert torch.equal(found, by_score[:, [1, 3, 4, 5]].sort(dim=1).values)
    with torch.no_grad():
        towers.items.item.weight.neg_()
    assert torch.equal(hard.find(user, left_out), found)  # still as they were
    hard.refresh(np.random.default_rng(0))
    assert not torch.equal(hard.find(user, left_out), found)


def test_where_all_items_are_left_out_there_is_no_hard_negative(towers: DualTowers) -> None:
    hard = HardNegatives(towers, ITEMS)
    hard.refresh(np.random.default_rng(0))
    but_one = torch.arange(FIRST_KNOWN + 1, FIRST_KNOWN + ITEMS)[None]
    assert hard.find(torch.randn(1, 8), but_one).tolist() == [[PADDING] * (ITEMS - 1) + [FIRST_KNOWN]]
    assert hard.find(torch.zeros(0, 8), torch.zeros(0, 2, dtype=torch.int64)).shape == (0, ITEMS)


def test_sampled_softmax_with_every_item_hard_is_full_softmax(towers: DualTowers) -> None:
    """What is drawn besides must not count twice, and what is there for certain needs no correction."""
    user, target = torch.randn(7, 8), torch.arange(7) + FIRST_KNOWN
    hard = HardNegatives(towers, ITEMS)
    hard.refresh(np.random.default_rng(0))
    sampler = negative_sampler(target.numpy(), np.ones(7, np.float32), ITEMS, 50, 0.5)
    drawn = sampler.draw(np.random.default_rng(0))
    negatives = Negatives(drawn, hard.find(user, torch.zeros(7, 0, dtype=torch.int64)))
    popularity = Popularity(torch.tensor([0, 10]), torch.randn(ITEMS, 3))
    objective = Objective(towers, TrainSettings(loss="sampled-softmax"), sampler, hard, popularity)
    period = torch.tensor([0, 1, 0, 1, 1, 0, 0])
    found = objective.next_item(user, target, period, negatives)
    scores = user @ towers.item_vectors().T + popularity.log_share.T[period]
    torch.testing.assert_close(found, cross_entropy(scores, target - FIRST_KNOWN, reduction="none"))
    without = Negatives(drawn, torch.zeros(7, 0, dtype=torch.int64))
    assert not torch.allclose(found, objective.next_item(user, target, period, without), rtol=0.01)


def test_shared_negative_that_is_hard_counts_once() -> None:
    negatives = Negatives(torch.tensor([2, 9]), torch.tensor([[0, 9, 11], [0, 0, 2]]))
    assert negatives.items().tolist() == [[2, 0, 0, 9, 11], [0, 9, 0, 0, 2]]
