"""Negatives are drawn as often as their correction says."""

import numpy as np
import pytest
import torch

from models.vocabulary import FIRST_KNOWN
from offline.negatives import negative_sampler


@pytest.mark.parametrize("power", [0.0, 0.75, 1.0])
@pytest.mark.parametrize("uniform_share", [0.0, 0.5, 1.0])
def test_draws_agree_with_what_is_expected(uniform_share: float, power: float) -> None:
    targets = np.repeat([2, 3, 5], [70, 20, 10])
    sampler = negative_sampler(targets, 4, 100, uniform_share, power)
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
    sampler = negative_sampler(np.repeat([2, 3], [9, 1]), 2, 100, 1.0)
    expected = sampler.log_expected(torch.tensor([2, 3]), targets=20).exp()
    assert expected.tolist() == pytest.approx([50 + 18, 50 + 2])
