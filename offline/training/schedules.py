"""How the learning rate goes over a training: up while it warms up, then down to a tenth."""

import math
from collections.abc import Callable, Mapping

#: Share of the learning rate that is left in the last step.
LAST_SHARE = 0.1
#: How many times the step schedule goes down, by the same factor.
STEPS_DOWN = 3

#: The share of the learning rate at a place from 0 to 1 of the way down: 1 at first, LAST_SHARE at last.
DECAYS: Mapping[str, Callable[[float], float]] = {
    "linear": lambda done: 1 - (1 - LAST_SHARE) * done,
    "cosine": lambda done: LAST_SHARE + (1 - LAST_SHARE) * (1 + math.cos(math.pi * done)) / 2,
    "exponential": lambda done: LAST_SHARE**done,
    "step": lambda done: LAST_SHARE ** (min(int(done * (STEPS_DOWN + 1)), STEPS_DOWN) / STEPS_DOWN),
}


def lr_share(step: int, steps: int, warmup_share: float, decay: str) -> float:
    """Return the share of the learning rate in a step, 0 to `steps`: rises over the warm-up, then decays."""
    warmup = round(steps * warmup_share)
    if step < warmup:
        return (step + 1) / warmup
    return DECAYS[decay](min((step - warmup) / max(steps - warmup, 1), 1.0))
