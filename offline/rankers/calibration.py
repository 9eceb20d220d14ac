"""Whether probabilities are what happens: expected calibration error, and observed over expected. Pure."""

import numpy as np

from models.arrays import Doubles

#: Bins of equal width that probabilities are put into.
BINS = 15


def calibration_error(probability: Doubles, label: Doubles, weight: Doubles) -> float:
    """Return how far the share of positives is from the mean probability, the mean over bins by weight.

    All (N,); NaN where a probability is. Source: Guo et al. 2017 (arXiv 1706.04599) eq. 5, of the probability
    of the positive label.
    """
    if np.isnan(probability).any():
        return float("nan")
    bin_of = np.minimum((probability * BINS).astype(np.int64), BINS - 1)
    observed, expected = (np.bincount(bin_of, weight * each, BINS) for each in (label, probability))
    return float(np.abs(observed - expected).sum() / weight.sum())


def observed_over_expected(probability: Doubles, label: Doubles, weight: Doubles) -> float:
    """Return how many positives there are for each that is expected, by weight (N,)."""
    return float((weight * label).sum() / (weight * probability).sum())
