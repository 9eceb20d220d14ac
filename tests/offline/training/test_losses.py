"""Losses on scores whose loss is known."""

import math

import pytest
import torch

from offline.training.losses import bce, bpr, full_softmax, gbce, sampled_softmax, tower_contrast


def test_full_softmax_of_equal_scores_is_log_of_the_catalogue() -> None:
    assert full_softmax(torch.zeros(3, 8), torch.tensor([0, 5, 7])).tolist() == pytest.approx(
        [math.log(8)] * 3
    )


def test_sampled_softmax_over_all_items_once_is_full_softmax() -> None:
    scores = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    target = torch.tensor([0, 2, 5, 3])
    positive = scores[torch.arange(4), target]
    negative = scores.scatter(1, target[:, None], -math.inf)
    found = sampled_softmax(positive, negative, torch.zeros(4), torch.zeros(6))
    assert found.mean().item() == pytest.approx(full_softmax(scores, target).mean().item())


def test_sampled_softmax_undoes_how_often_items_are_drawn() -> None:
    """One negative that stands for ten weighs as ten of the same score."""
    ten = sampled_softmax(torch.zeros(1), torch.zeros(1, 10), torch.zeros(1), torch.zeros(10))
    one = sampled_softmax(torch.zeros(1), torch.zeros(1, 1), torch.zeros(1), torch.tensor([-math.log(10)]))
    assert ten.item() == pytest.approx(one.item())


def test_bpr_and_bce_of_equal_scores() -> None:
    assert bpr(torch.ones(2), torch.ones(2, 3)).tolist() == pytest.approx([math.log(2)] * 2)
    assert bce(torch.zeros(2), torch.zeros(2, 3)).tolist() == pytest.approx([4 * math.log(2)] * 2)


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


def test_contrast_prefers_own_short_vector() -> None:
    eye = torch.eye(3)
    assert tower_contrast(eye, eye).mean().item() == pytest.approx(math.log(1 + math.exp(-1)))
    assert tower_contrast(eye, eye.roll(-1, 0)).mean().item() == pytest.approx(
        math.log(1 + math.exp(1)), abs=1
    )
    assert tower_contrast(eye, eye).mean() < tower_contrast(eye, eye.roll(-1, 0)).mean()
    assert tower_contrast(eye[:1], eye[:1]).item() == 0
