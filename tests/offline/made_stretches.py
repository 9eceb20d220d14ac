"""Stretches of users with equally long histories, an event a second, all views of one category."""

import numpy as np

from models.arrays import Ints
from models.towers.histories import FeatureSettings, event_features
from models.windows.histories import Histories
from offline.training.data import Stretches, cut_stretches


def stretches_of(item: Ints, events: int) -> Stretches:
    """Return the stretches of users who had so many items each, one user's behind the other's."""
    histories = Histories(
        item,
        np.full_like(item, 2),
        np.ones(len(item), np.uint8),
        np.arange(len(item)) * 1_000,
        np.arange(0, len(item) + 1, events),
    )
    derived = event_features(histories, FeatureSettings())
    return cut_stretches(histories, derived, np.ones(len(item), np.float32), 100)
