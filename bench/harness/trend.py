"""Does a figure grow? Its slope per hour, with a standard error that noise of minutes does not flatter."""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from models.arrays import Doubles
from models.errors import SettingsError

#: Neighbouring samples are alike, so a line through all of them would look far too certain: the line goes
#: through means of blocks, so many at most and at least.
BLOCKS, LEAST_BLOCKS = 20, 4
#: How sure it must be that the slope is above its bound.
CONFIDENCE = 0.99


@dataclass(frozen=True, slots=True)
class Trend:
    """A figure's mean, its slope per hour with its standard error, and how far that goes for certain."""

    mean: float
    per_hour: float
    error: float
    #: The slope is above this, with CONFIDENCE.
    at_least: float

    def is_above(self, bound: float) -> bool:
        """Return whether the slope is significantly above a bound."""
        return self.at_least > bound


def trend(at_s: Doubles, values: Doubles, cycles: int) -> Trend:
    """Return the trend of a figure that was sampled at these times (N,), in so many cycles of like length.

    Raises SettingsError where these are fewer than LEAST_BLOCKS.
    """
    blocks = min(cycles, BLOCKS)
    if blocks < LEAST_BLOCKS:
        raise SettingsError(f"there were {cycles} cycles to look at, and a slope needs {LEAST_BLOCKS}")
    ends = at_s[0] + np.arange(1, blocks + 1) * (at_s[-1] - at_s[0]) / blocks
    block = np.minimum(np.searchsorted(ends, at_s), blocks - 1)
    means = [(at_s[block == each].mean(), values[block == each].mean()) for each in np.unique(block)]
    hours, of_block = np.array(means).T
    line = stats.linregress(hours / 3_600, of_block)
    least = line.slope - stats.t.ppf(CONFIDENCE, len(means) - 2) * line.stderr
    return Trend(float(values.mean()), float(line.slope), float(line.stderr), float(least))
