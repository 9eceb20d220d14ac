"""Losses on scores whose loss is known."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from offline.training.losses import bce, bpr, gbce, sampled_softmax, tower_contrast


def test_sampled_softmax_over_all_items_once_is_full_softmax() -> None:
    scores = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    target = torch.tensor([0, 2, 5, 3])
    positive = scores[torch.arange(4), target]
    negative = scores.scatter(1, target[:, None], -math.inf)
    found = sampled_softmax(positive, negative, torch.zeros(4), torch.zeros(6))
    assert found.mean().item() == pytest.approx(cross_entropy(scores, target).item())


def test_sampled_softmax_undoes_how_often_items_are_drawn() -> None:
    """One negative that stands for ten weighs as ten of the same score."""
    ten = sampled_softmax(torch.zeros(1), torch.zeros(1, 10), torch.zeros(1), torch.zeros(10))
    one = sampled_softmax(torch.zeros(1), torch.zeros(1, 1), torch.zeros(1), torch.tensor([-math.log(10)]))
    assert ten.item() == pytest.approx(one.item())


def test_bpr_and_bce_of_equal_scores() -> None:
    assert bpr(torch.ones(2), torch.ones(2, 3)).tolist() == pytest.approx([math.log(2)] * 2)
    assert bce(torch.zeros(2), torch.zeros(2, 3)).tolist() == pytest.approx([4 * math.log(2)] * 2)


def test_losses_of_scores_that_differ() -> None:
    """Target 1.0, negatives 0.0 and 2.0: the differences are -1 and 1, softplus 0.313262 and 1.313262."""
    positive, negative = torch.tensor([1.0]), torch.tensor([[0.0, 2.0]])
    assert bpr(positive, negative).item() == pytest.approx((0.313262 + 1.313262) / 2, abs=1e-6)
    # softplus(0) is 0.693147, softplus(2) 2.126928.
    assert bce(positive, negative).item() == pytest.approx(0.313262 + 0.693147 + 2.126928, abs=1e-6)
    # A rate of 0.1, calibrated by 0.75: the target counts 0.1 (0.75 (1 - 10) + 10) = 0.325.
    found = gbce(positive, negative, 0.1, 0.75)
    assert found.item() == pytest.approx(0.325 * 0.313262 + 0.693147 + 2.126928, abs=1e-6)
    # e and 1 and e^2 sum to 11.107338, the target is one e of it.
    found = sampled_softmax(positive, negative, torch.zeros(1), torch.zeros(2))
    assert found.item() == pytest.approx(math.log(11.107338) - 1, abs=1e-6)


def test_a_negative_that_is_the_target_costs_nothing() -> None:
    with_itself = torch.tensor([[0.5, -math.inf]])
    positive = torch.tensor([1.0])
    assert bce(positive, with_itself).item() == pytest.approx(bce(positive, with_itself[:, :1]).item())
    assert bpr(positive, torch.tensor([[-math.inf]])).item() == 0


def test_gbce_without_calibration_is_bce_and_fully_calibrated_discounts_the_positive() -> None:
    positive, negative = torch.tensor([0.3]), torch.tensor([[0.1, -0.2]])
    assert gbce(positive, negative, 0.1, 0.0).item() == pytest.approx(bce(positive, negative).item())
    discounted = gbce(torch.zeros(1), torch.full((1, 1), -math.inf), 0.1, 1.0)
    assert discounted.item() == pytest.approx(0.1 * math.log(2))


def test_contrast_compares_own_short_vector_with_that_of_the_row_before() -> None:
    """Cosines of 1 to their own and 0 to the other cost log(1 + 1/e), of 0 and 1 log(1 + e)."""
    users = torch.eye(3)
    assert tower_contrast(users, users).tolist() == pytest.approx([0.313262] * 3, abs=1e-6)
    assert tower_contrast(users, users.roll(-1, 0)).tolist() == pytest.approx([1.313262] * 3, abs=1e-6)
    east, north, both = [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]
    # The first user's cosines are 1 and 0.707107, the second's 0 and 0.707107.
    found = tower_contrast(torch.tensor([both, north]), torch.tensor([both, east]))
    expected = [math.log(1 + math.exp(0.707107 - 1)), math.log(1 + math.exp(0.707107))]
    assert found.tolist() == pytest.approx(expected, abs=1e-6)


def test_contrast_counts_directions_alone_and_one_row_costs_nothing() -> None:
    random = torch.Generator().manual_seed(0)
    long, short = torch.randn(4, 8, generator=random), torch.randn(4, 8, generator=random)
    torch.testing.assert_close(tower_contrast(3 * long, 0.1 * short), tower_contrast(long, short))
    assert tower_contrast(long[:1], short[:1]).tolist() == [0]
