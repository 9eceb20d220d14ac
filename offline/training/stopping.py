"""When a training ends: passes while they make held-out rows better. Pure."""

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

P = TypeVar("P")


def best_place(figures: Sequence[float]) -> int:
    """Return the place of the first of the highest figures; NaN is lower than all. There is at least one."""
    return max(range(len(figures)), key=lambda place: (_or_lowest(figures[place]), -place))


def is_over(figures: Sequence[float], patience: int) -> bool:
    """Return whether so many passes have not been better than the best one."""
    return bool(figures) and len(figures) - 1 - best_place(figures) >= patience


def best_pass(passes: int, patience: int, learn: Callable[[int], P], figure: Callable[[P], float]) -> P:
    """Learn pass by pass, from number 1 on, and return what `learn` gave at the end of the best one."""
    best = learn(1)
    figures = [figure(best)]
    while len(figures) < passes and not is_over(figures, patience):
        done = learn(len(figures) + 1)
        figures.append(figure(done))
        if best_place(figures) == len(figures) - 1:
            best = done
    return best


def _or_lowest(figure: float) -> float:
    return -math.inf if math.isnan(figure) else figure
