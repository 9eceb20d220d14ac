"""Histories -> vectors by folding users in: the ridge regression of their events on the items."""

from collections.abc import Sequence

import numpy as np

from models.arrays import Ints
from models.encoder import Vectors
from models.factors.events import Columns, observed_of
from models.factors.settings import FactorSettings
from models.factors.weights import FactorWeights
from models.windows.histories import Histories


class FactorEncoder:
    """Encodes with a matrix factorisation; a `models.encoder.UserEncoder`."""

    def __init__(self, weights: FactorWeights, settings: FactorSettings, categories: Ints) -> None:
        """categories (I,): the category index of each item of the vocabulary."""
        self.dimension = 2 + settings.factors
        self.made = {"user": 0}
        self.reads_live = False
        self._settings = settings
        self._mean = float(weights.mean[0])
        self._columns = Columns.of(categories)
        items = weights.ridge(settings)
        everything = weights.with_categories(categories).ridge(settings)
        self._ridge = everything._replace(gram=items.gram, pull=items.pull)  # a category is no item

    def encode(self, histories: Histories, user_ids: Sequence[str] = ()) -> Vectors:
        """Return the vectors of B users; see `UserEncoder.encode`. Nothing is kept of any user."""
        found = self._ridge.solve(observed_of(histories, self._columns, self._settings))  # (B, 1 + K)
        found[:, 0] += self._mean
        user = np.hstack([np.ones((len(histories), 1)), found]).astype(np.float32)
        self.made["user"] += len(histories)
        nothing = np.zeros((len(histories), 0), np.float32)
        return Vectors(user, nothing, nothing)

    def forget(self) -> None:
        """Do nothing: nothing is kept."""
