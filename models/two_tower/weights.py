"""The user side of two towers as arrays: what is known of each user, events' vectors, and the layers."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from models.arrays import Floats
from models.two_tower.settings import TwoTowerSettings


@dataclass(frozen=True, slots=True)
class UserTower:
    """What users' vectors are made of.

    known (1 + U, F): what is known of a user beside the window, a stranger's first; item (I + 2, E), category
    (C + 2, E): the vectors of an event, by vocabulary index, added up; layers: weight (in, out) and bias
    (out,) of each, batch normalisation included, with a ReLU after all but the last.
    """

    known: Floats
    item: Floats
    category: Floats
    layers: tuple[tuple[Floats, Floats], ...]

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, Floats]) -> "UserTower":
        """Return the tower of `arrays()`. Raises KeyError where one is missing."""
        count = sum(name.startswith("weight.") for name in arrays)
        layers = tuple((arrays[f"weight.{n}"], arrays[f"bias.{n}"]) for n in range(count))
        return cls(arrays["known"], arrays["item"], arrays["category"], layers)

    def arrays(self) -> dict[str, Floats]:
        """Return the arrays by name."""
        found = {"known": self.known, "item": self.item, "category": self.category}
        for number, (weight, bias) in enumerate(self.layers):
            found |= {f"weight.{number}": weight, f"bias.{number}": bias}
        return found

    def check(self, users: int, items: int, categories: int, settings: TwoTowerSettings) -> None:
        """Raise ValueError where they are not of so many users and indices, or not of the settings' form."""
        width = self.known.shape[-1] + 2 * settings.event_dimension
        wanted: dict[str, tuple[int, ...]] = {
            "known": (1 + users, self.known.shape[-1]),
            "item": (items, settings.event_dimension),
            "category": (categories, settings.event_dimension),
        }
        for number, size in enumerate((*settings.units, settings.dimension)):
            wanted |= {f"weight.{number}": (width, size), f"bias.{number}": (size,)}
            width = size
        found = {name: array.shape for name, array in self.arrays().items()}
        for name in wanted.keys() | found.keys():
            if found.get(name) != wanted.get(name):
                raise ValueError(
                    f"{name} has the shape {found.get(name)}, where {wanted.get(name)} is wanted"
                )

    def __call__(self, inputs: Floats) -> Floats:
        """Return vectors (B, D) of inputs (B, F + 2 E)."""
        for number, (weight, bias) in enumerate(self.layers):
            if number:
                inputs = np.maximum(inputs, 0)
            inputs = inputs @ weight + bias
        return inputs
