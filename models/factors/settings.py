"""The form of a matrix factorisation, and what an event means to it, wherever a user is folded in."""

from dataclasses import dataclass

from models.errors import SettingsError
from models.windows.window import WindowSettings


@dataclass(frozen=True, slots=True)
class FactorSettings:
    """What training and folding in must agree on."""

    #: Length of a user's and of an item's factors, biases not counted.
    factors: int = 32
    #: Strength of the regularisation of every factor and every user's and item's bias.
    ridge: float = 2.0
    #: How much it counts that a user has not had an item, beside an event; 0: it says nothing, as in a log of
    #: ratings, and `behaviour_values` must differ.
    unseen_weight: float = 0.1
    #: What a score should be for a view, a favourite, a cart and a buy (0 for what a user has not had).
    behaviour_values: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    #: After how many hours before the user's newest event an event counts half; 0: none ages.
    half_life_h: float = 24.0
    #: Newest events of a window that are read.
    max_events: int = WindowSettings().max_events

    def __post_init__(self) -> None:
        for name, least in (("factors", 1), ("max_events", 1), ("unseen_weight", 0), ("half_life_h", 0)):
            if not getattr(self, name) >= least:
                raise SettingsError(f"{name} is {getattr(self, name)}; it must be at least {least}")
        if not self.ridge > 0:
            raise SettingsError(f"ridge is {self.ridge}; it must be over 0, or a user has no single solution")
        if not self.unseen_weight and len(set(self.behaviour_values)) == 1:
            raise SettingsError(
                f"unseen_weight is 0 and all behaviour_values are {self.behaviour_values[0]:g}: there is "
                "nothing to tell items apart by; give another unseen_weight, or other values"
            )
