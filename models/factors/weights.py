"""What a matrix factorisation has learned of items; users are folded in."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from models.arrays import Floats, Ints
from models.factors.ridge import Ridge
from models.factors.settings import FactorSettings
from models.ids.vocabulary_file import FIRST_KNOWN


@dataclass(frozen=True, slots=True)
class FactorWeights:
    """A score is mean + user_bias + item_bias + user_factors . item_factors.

    mean (1,) the global bias; item_bias (I,), item_factors (I, K), in the order of the vocabulary.
    """

    mean: Floats
    item_bias: Floats
    item_factors: Floats

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, Floats]) -> "FactorWeights":
        """Return the weights of `arrays()`. Raises KeyError where one is missing."""
        return cls(arrays["mean"], arrays["item_bias"], arrays["item_factors"])

    def arrays(self) -> dict[str, Floats]:
        """Return the weights by name."""
        return {"mean": self.mean, "item_bias": self.item_bias, "item_factors": self.item_factors}

    def check(self, items: int, settings: FactorSettings) -> None:
        """Raise ValueError where they are not of so many items, or not of the settings' form."""
        for name, shape in (
            ("mean", (1,)),
            ("item_bias", (items,)),
            ("item_factors", (items, settings.factors)),
        ):
            if (found := self.arrays()[name].shape) != shape:
                raise ValueError(f"{name} has the shape {found}, where {shape} is wanted")

    def vectors(self) -> Floats:
        """Return (I, 2 + K): beside a user's (1, mean + user_bias, user_factors) they give the scores."""
        ones = np.ones((len(self.item_bias), 1), np.float32)
        return np.hstack([self.item_bias[:, None], ones, self.item_factors])

    def with_categories(self, categories: Ints) -> "FactorWeights":
        """Return them with the mean of each category's items behind the items, 0 where it has none.

        categories (I,): the category index of each item.
        """
        known = categories >= FIRST_KNOWN
        place = categories[known] - FIRST_KNOWN
        count = int(place.max(initial=-1)) + 1
        of_items = np.hstack([self.item_bias[:, None], self.item_factors])
        totals = np.zeros((count, of_items.shape[1]))
        np.add.at(totals, place, of_items[known])
        means = totals / np.maximum(np.bincount(place, minlength=count), 1)[:, None]
        whole = np.concatenate([of_items, means.astype(np.float32)])
        return FactorWeights(self.mean, whole[:, 0], whole[:, 1:])

    def ridge(self, settings: FactorSettings) -> Ridge:
        """Return the regression by which users are folded in: on the items, x = (user_bias, user_factors)."""
        features = np.hstack([np.ones((len(self.item_bias), 1)), self.item_factors])
        offsets = self.mean.astype(np.float64) + self.item_bias
        return Ridge.of(features, offsets, settings.unseen_weight, settings.ridge)
