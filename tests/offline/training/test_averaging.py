"""The average follows the weights, and the module gets its own back."""

import pytest
import torch

from offline.training.averaging import STEPS_BETWEEN, Average


def test_average_comes_to_weights_that_stay() -> None:
    module = torch.nn.Linear(2, 1, bias=False)
    average = Average(module)
    module.weight.data.fill_(5.0)
    for _ in range(100 * STEPS_BETWEEN):
        average.step()
    with average.in_place():
        torch.testing.assert_close(module.weight.data, torch.full((1, 2), 5.0), atol=1e-3, rtol=0)
    assert module.weight.data.tolist() == [[5.0, 5.0]]


def test_first_update_takes_nearly_all_of_the_new_weights() -> None:
    module = torch.nn.Linear(1, 1, bias=False)
    module.weight.data.fill_(0.0)
    average = Average(module)
    module.weight.data.fill_(1.0)
    average.step()
    with pytest.raises(ValueError, match="anything"), average.in_place():
        assert module.weight.item() == pytest.approx(0.9)
        raise ValueError("anything")
    assert module.weight.item() == 1.0
