"""The losses of labelled candidates are their papers', number by number, and so are their slopes."""

import math

import pytest
import torch
from torch.nn import functional

from models.ids.vocabulary_file import UNKNOWN
from models.rankers.layers import Events
from offline.rankers.label_loss import LabelLoss
from offline.rankers.samples import Asked
from offline.rankers.settings import RankerTrainSettings
from offline.training.label_losses import label_losses

SCORES = torch.tensor([[-3.0, -0.4, 0.0], [0.7, 2.5, 12.0]], dtype=torch.float64)
LABEL = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]], dtype=torch.float64)


def _slow(score: float, label: float, weight: float, gamma: float) -> float:
    p = 1 / (1 + math.exp(-score))
    told = p if label else 1 - p
    return float(-(weight if label else 1) * (1 - told) ** gamma * math.log(told))


@pytest.mark.parametrize("weight", [1.0, 0.3, 25.0])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_losses_are_the_papers(weight: float, gamma: float) -> None:
    found = label_losses(SCORES, LABEL, weight, gamma)
    for score, label, each in zip(SCORES.ravel(), LABEL.ravel(), found.ravel(), strict=True):
        assert each.item() == pytest.approx(_slow(score.item(), label.item(), weight, gamma), rel=1e-6)
    own = SCORES.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda scores: label_losses(scores, LABEL, weight, gamma), own)


def test_without_gamma_it_is_torchs_weighted_cross_entropy() -> None:
    theirs = functional.binary_cross_entropy_with_logits(
        SCORES, LABEL, pos_weight=torch.tensor(4.0), reduction="none"
    )
    torch.testing.assert_close(label_losses(SCORES, LABEL, 4.0), theirs, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_scores_far_out_have_a_loss_and_a_slope(gamma: float) -> None:
    far = torch.tensor([-2_000.0, 2_000.0, -2_000.0, 2_000.0]).requires_grad_()
    loss = label_losses(far, torch.tensor([1.0, 1.0, 0.0, 0.0]), 2.0, gamma)
    loss.sum().backward()  # type: ignore[no-untyped-call]
    assert far.grad is not None and torch.isfinite(far.grad).all()
    assert loss.tolist() == pytest.approx([4_000, 0, 0, 2_000])


@pytest.mark.parametrize("positive_weight", [1.0, 9.0, "balanced"])
def test_positives_may_weigh_more_and_the_odds_that_are_learned_stay(positive_weight: float | str) -> None:
    """One of ten is positive: whatever it weighs, the log-odds without a slope are log(1 / 9)."""
    settings = RankerTrainSettings(positive_weight=positive_weight)  # type: ignore[arg-type]
    loss = LabelLoss(settings, 1, 9)
    label = torch.tensor([[1.0, *[0.0] * 9]])
    nothing = torch.full((1, 10), UNKNOWN)
    asked = Asked(Events(*[nothing] * 4), nothing, nothing, label, torch.ones(1, 10))
    scores = torch.full((1, 10), math.log(1 / 9)).requires_grad_()
    (loss.total(scores, asked) / loss.weight(asked)).backward()  # type: ignore[no-untyped-call]
    assert scores.grad is not None
    assert scores.grad.sum().item() == pytest.approx(0, abs=1e-6)
    assert scores.grad.abs().sum().item() > 0.1
    assert loss.weight(asked) == pytest.approx(10 if positive_weight == 1 else 18)
