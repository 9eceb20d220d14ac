"""How the learning rate goes over a training: up while it warms up, then down to a tenth, or as it is."""

import math
from collections.abc import Callable, Mapping
from functools import partial

from offline.training.settings import StepSettings

#: Share of the learning rate that is left in the last step.
LAST_SHARE = 0.1
#: How many times the step schedule goes down, by the same factor.
STEPS_DOWN = 3

#: The share of the learning rate at a place from 0 to 1 of the way down: 1 at first; at last LAST_SHARE, but
#: of the one that does not fall.
DECAYS: Mapping[str, Callable[[float], float]] = {
    "constant": lambda _: 1.0,
    "linear": lambda done: 1 - (1 - LAST_SHARE) * done,
    "cosine": lambda done: LAST_SHARE + (1 - LAST_SHARE) * (1 + math.cos(math.pi * done)) / 2,
    "exponential": lambda done: LAST_SHARE**done,
    "step": lambda done: LAST_SHARE ** (min(int(done * (STEPS_DOWN + 1)), STEPS_DOWN) / STEPS_DOWN),
}


def rate_of(settings: StepSettings, steps: int) -> Callable[[int], float]:
    """Return what gives a step's share of the learning rate, in a training of so many steps."""
    return partial(lr_share, steps=steps, warmup_share=settings.warmup_share, decay=settings.lr_decay)


def lr_share(step: int, steps: int, warmup_share: float, decay: str) -> float:
    """Return the share of the learning rate in a step, 0 to `steps`: rises over the warm-up, then decays."""
    warmup = round(steps * warmup_share)
    if step < warmup:
        return (step + 1) / warmup
    return DECAYS[decay](min((step - warmup) / max(steps - warmup, 1), 1.0))
