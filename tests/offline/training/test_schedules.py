"""The learning rate rises over the warm-up and then falls from all of it to a tenth."""

import pytest

from offline.training.schedules import DECAYS, lr_share


@pytest.mark.parametrize("decay", sorted(DECAYS.keys() - {"constant"}))
def test_rate_rises_then_falls_to_a_tenth(decay: str) -> None:
    shares = [lr_share(step, 100, 0.1, decay) for step in range(101)]
    assert shares[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert shares[10] == 1
    assert shares[10:] == sorted(shares[10:], reverse=True)
    assert shares[100] == pytest.approx(0.1)
    assert lr_share(0, 100, 0.0, decay) == 1


def test_step_has_four_levels() -> None:
    assert len({round(lr_share(step, 100, 0.0, "step"), 6) for step in range(101)}) == 4


def test_constant_rises_and_stays() -> None:
    shares = [lr_share(step, 100, 0.1, "constant") for step in range(101)]
    assert shares == pytest.approx([min((step + 1) / 10, 1) for step in range(101)])
