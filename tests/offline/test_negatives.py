"""Negatives are drawn as often as their correction says."""

import numpy as np
import pytest
import torch

from models.vocabulary import FIRST_KNOWN
from offline.negatives import negative_sampler


@pytest.mark.parametrize("uniform_share", [0.0, 0.5, 1.0])
def test_draws_agree_with_what_is_expected(uniform_share: float) -> None:
    targets = np.repeat([2, 3, 5], [70, 20, 10])
    sampler = negative_sampler(targets, 4, 100, uniform_share)
    random = np.random.default_rng(0)
    drawn = torch.cat([sampler.draw(random) for _ in range(400)])
    found = np.bincount(drawn.numpy() - FIRST_KNOWN, minlength=4) / 400
    popular = np.array([70, 20, 0, 10])
    expected = uniform_share * 25 + (1 - uniform_share) * popular
    np.testing.assert_allclose(found, expected, atol=1)
    log_expected = sampler.log_expected(torch.tensor([2, 3, 5]))
    np.testing.assert_allclose(log_expected.exp().numpy(), expected[[0, 1, 3]], rtol=1e-4)
