"""Parts that a model can be trained without, to see what each is worth."""

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor

from models.errors import SettingsError
from models.towers.dual_towers import DualTowers

#: The neutral value of each parameter that a part consists of: it is set, and never learns.
Neutral = Iterable[tuple[Tensor, float]]

PARTS: Mapping[str, Callable[[DualTowers], Neutral]] = {
    # How long it was since the event before.
    "gap": lambda towers: [(towers.gap.weight, 0.0)],
    # What the user did with an item.
    "behaviour": lambda towers: [(towers.behaviour.weight, 0.0), (towers.direct.behaviour, 0.0)],
    # The category of an item, read and scored.
    "category": lambda towers: [
        (towers.items.category.weight, 0.0),
        (towers.items.category_difference.weight, 0.0),
    ],
    # What an item's output has beyond its input.
    "difference": lambda towers: [
        (towers.items.item_difference.weight, 0.0),
        (towers.items.category_difference.weight, 0.0),
    ],
    # How much of an item's input is in its output.
    "share": lambda towers: [(towers.items.share, 1.0)],
    # What a score begins with: how popular the item is at present.
    "popularity": lambda towers: [(towers.items.popularity_weight, 0.0)],
    # The weighted sum of the last items; without it the short tower is its Transformer only.
    "direct": lambda towers: [(towers.direct.place, 0.0), (towers.short_scale, 1.0)],
    # That an item counts otherwise where it comes again nearer to the newest event.
    "again": lambda towers: [(towers.direct.again, 1.0)],
    # Both Transformers; without them only the direct path is left.
    "transformers": lambda towers: [(towers.short_scale, 0.0), (towers.long_scale, 0.0)],
    # The long tower; a user's vector is the short one.
    "long": lambda towers: [(towers.long_scale, 0.0), (towers.unseen_long, 0.0)],
    # What the gate sees: it mixes every user's vectors in the same, learned proportion.
    "gate": lambda towers: [(towers.gate.weight, 0.0)],
}


def check_parts(names: Iterable[str]) -> None:
    """Raise SettingsError where a name is not one of PARTS."""
    for name in names:
        if name not in PARTS:
            raise SettingsError(f"without is {name!r}; it must be of {', '.join(PARTS)}")


def leave_out(towers: DualTowers, names: Iterable[str]) -> None:
    """Make these parts of untrained towers neutral, for good."""
    for name in names:
        for parameter, value in PARTS[name](towers):
            with torch.no_grad():
                parameter.fill_(value)
            parameter.requires_grad_(False)


def is_neutral(towers: DualTowers, name: str) -> bool:
    """Return whether every parameter of a part has its neutral value."""
    pairs = PARTS[name](towers)
    return all(bool((parameter == value).all()) for parameter, value in pairs)
