"""The form of two towers over features, as far as what serves them must know it."""

from dataclasses import dataclass

from models.errors import SettingsError


@dataclass(frozen=True, slots=True)
class TwoTowerSettings:
    """The towers' sizes; those of training are in offline/two_tower/settings.py."""

    #: Length of a user's and of an item's vector.
    dimension: int = 64
    #: Length of the vector of an id, and of a value of a categorical or history column.
    id_dimension: int = 32
    value_dimension: int = 8
    #: Length of the vector of an event's item, and newest events of the window that are read.
    event_dimension: int = 32
    history_events: int = 50
    #: Units of the hidden layers of either tower.
    units: tuple[int, ...] = (128, 64)
    #: Share of the hidden units that is left out in a step of training.
    dropout: float = 0.1

    def __post_init__(self) -> None:
        for name in ("dimension", "id_dimension", "value_dimension", "event_dimension", "history_events"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if not self.units or min(self.units) < 1:
            raise SettingsError(f"units is {self.units}; give at least one hidden layer of at least 1 unit")
        if not 0 <= self.dropout < 1:
            raise SettingsError(f"dropout is {self.dropout}; it must be at least 0 and under 1")
