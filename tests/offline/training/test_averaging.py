"""The average is the one computed by hand, and the module keeps its own weights."""

import pytest
import torch

from offline.training.averaging import KEPT_SHARE, STEPS_BETWEEN, YOUNG_STEPS, RunningAverage


def averaged(module: torch.nn.Linear, average: RunningAverage, weights: list[float]) -> float:
    """Return the average after the module has had these weights, one per step."""
    for weight in weights:
        average.before_step()
        module.weight.data.fill_(weight)
        average.step()
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
    other = torch.nn.Linear(1, 1, bias=False)
    restored = RunningAverage(other)
    restored.restore(average.state())
    assert averaged(module, average, [7.0]) == pytest.approx(0.25 * 28 + 0.75 * 7)
    assert averaged(other, restored, [7.0]) == pytest.approx(0.25 * 28 + 0.75 * 7)
    assert restored.state()["updates"] == average.state()["updates"] == 3


def test_average_of_a_table_whose_rows_move_now_and_then_is_that_of_all_its_rows() -> None:
    """Looked at now and then, saved and restored once."""
    torch.manual_seed(0)
    by_row, whole = (torch.nn.Embedding(6, 3, sparse=sparse) for sparse in (True, False))
    whole.load_state_dict(by_row.state_dict())
    averages = RunningAverage(by_row), RunningAverage(whole)
    for step in range(YOUNG_STEPS + 5 * STEPS_BETWEEN + 3):
        rows = torch.randint(6, (step % 4,)) if step % 3 else None  # of which some are the same
        for table, average in zip((by_row, whole), averages, strict=True):
            table.weight.grad = None
            if rows is not None:
                table(rows).sum().backward()
            average.before_step()
            if rows is not None:
                table.weight.data[rows] += step
            average.step()
        if step == 40:
            averages[0].restore(averages[0].state())
        if step % 50 == 0:
            torch.testing.assert_close(*(average.module.weight for average in averages))
    torch.testing.assert_close(*(average.module.weight for average in averages))
    assert not torch.allclose(next(averages[0].module.parameters()), by_row.weight, atol=1)
