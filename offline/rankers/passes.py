"""Passes over samples: batches, as many as a step has, and how many steps that makes."""

import math
from collections.abc import Iterator
from itertools import islice

import numpy as np
from tqdm import tqdm

from models.arrays import Ints
from offline.rankers.samples import Samples


def groups(samples: Samples, size: int, accumulate: int, random: np.random.Generator) -> Iterator[list[Ints]]:
    """Yield all samples (indices) once, so many batches of this size for each step, with a progress bar."""
    batches = samples.batches(size, random)
    steps = step_count(samples, size, accumulate)
    for _ in tqdm(range(steps), desc="learning", leave=False, disable=None):
        yield list(islice(batches, accumulate))


def step_count(samples: Samples, size: int, accumulate: int) -> int:
    """Return how many steps a pass has."""
    return math.ceil(math.ceil(len(samples) / size) / accumulate)
