"""The average is the one computed by hand, and the module keeps its own weights."""

import pytest
import torch

from offline.training.averaging import KEPT_SHARE, STEPS_BETWEEN, YOUNG_STEPS, RunningAverage


def averaged(module: torch.nn.Linear, average: RunningAverage, weights: list[float]) -> float:
    """Return the average after the module has had these weights, one per step."""
    for weight in weights:
        module.weight.data.fill_(weight)
        average.step(module)
    (value,) = average.module.parameters()
    return value.item()


@pytest.fixture
def module() -> torch.nn.Linear:
    module = torch.nn.Linear(1, 1, bias=False)
    module.weight.data.fill_(10.0)
    return module


def test_young_average_forgets_fast(module: torch.nn.Linear) -> None:
    """It keeps 1/10 in the first update, 2/11 in the second, 3/12 in the third."""
    average = RunningAverage(module)
    assert averaged(module, average, [20.0]) == pytest.approx(0.1 * 10 + 0.9 * 20)  # 19
    assert averaged(module, average, [30.0]) == pytest.approx(2 / 11 * 19 + 9 / 11 * 30)  # 28
    assert averaged(module, average, [0.0]) == pytest.approx(3 / 12 * 28)
    assert module.weight.item() == 0.0


def test_old_average_keeps_nine_tenths_of_itself_every_tenth_step(module: torch.nn.Linear) -> None:
    average = RunningAverage(module)
    before = averaged(module, average, [1.0] * YOUNG_STEPS)
    assert before == pytest.approx(1.0)
    assert averaged(module, average, [5.0] * (STEPS_BETWEEN - 1)) == before
    assert averaged(module, average, [5.0]) == pytest.approx(KEPT_SHARE * 1 + (1 - KEPT_SHARE) * 5)


def test_restored_average_goes_on_the_same(module: torch.nn.Linear) -> None:
    average = RunningAverage(module)
    averaged(module, average, [20.0, 30.0])
    restored = RunningAverage(torch.nn.Linear(1, 1, bias=False))
    restored.restore(average.state())
    assert averaged(module, average, [7.0]) == pytest.approx(0.25 * 28 + 0.75 * 7)
    restored.step(module)
    assert [*restored.module.parameters()] == [*average.module.parameters()]
    assert restored.state()["updates"] == average.state()["updates"] == 3
