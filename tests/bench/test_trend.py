"""A figure that grows is told from one that only comes and goes."""

import numpy as np
import pytest

from bench.harness.trend import trend
from models.arrays import Doubles
from models.errors import SettingsError

AT_S = np.arange(0, 3_600, 5.0)


def wandering(seed: int) -> Doubles:
    """Return samples around 100, each like the one before it, which come and go every two minutes."""
    noise = np.random.default_rng(seed).normal(0, 1, len(AT_S))
    for place in range(1, len(noise)):
        noise[place] += 0.9 * noise[place - 1]
    return np.asarray(100 + noise + 20 * (AT_S % 120 > 60))


def test_what_wanders_is_seldom_taken_to_grow_and_what_grows_is_seen() -> None:
    flat = [trend(AT_S, wandering(seed), 30).is_above(0) for seed in range(300)]
    assert sum(flat) < 15
    growing = [trend(AT_S, wandering(seed) + AT_S / 3_600 * 30, 30) for seed in range(100)]
    assert sum(each.is_above(10) for each in growing) > 95
    assert np.mean([each.per_hour for each in growing]) == pytest.approx(30, abs=2)
    assert not any(each.is_above(40) for each in growing)


def test_a_short_run_is_refused() -> None:
    with pytest.raises(SettingsError, match="there were 3 cycles to look at, and a slope needs 4"):
        trend(AT_S[:80], wandering(1)[:80], 3)
