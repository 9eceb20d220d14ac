"""Whether a learner of items has gone wrong: its loss on the stream, and the vectors' lengths."""

from dataclasses import dataclass

import numpy as np

from models.arrays import Doubles, Flags, Floats
from models.items.rows import FROZEN, LIVE, WEIGHT
from models.items.step import SCORED_EVERY

#: The loss may be more than that of the vectors as trained by so much (nats), once so many were scored.
MAX_LOSS_ABOVE, MIN_SCORED = 0.1, 50
#: A vector may be so many times as long as the longest that was trained.
MAX_STRETCH = 20.0


@dataclass(frozen=True, slots=True)
class Health:
    """The state of a learner.

    loss, frozen_loss: nats per event, of the learner and of the vectors as trained, on the same last events
    (a thousand count 1/e), each scored before it was learned; NaN before the first. mean_norm, max_norm: of
    the output vectors; reason is "" where all is well.
    """

    loss: float
    frozen_loss: float
    scored: float
    mean_norm: float
    max_norm: float
    trained_norm: float
    reason: str

    @property
    def is_sane(self) -> bool:
        """Whether what is learned may be published."""
        return not self.reason


def longest(vectors: Floats) -> float:
    """Return the length of the longest vector of (n, D)."""
    return float(_lengths(vectors).max())


def health_of(outputs: Floats, is_there: Flags, trained: float, losses: Doubles) -> Health:
    """Return the state, of outputs (n, D), of which some are there (n,), and the stream's decayed losses.

    trained: the length of the longest vector as trained.
    """
    norms = _lengths(outputs)[is_there]
    weight = losses[WEIGHT]
    live, frozen = (float(losses[each] / weight) if weight else float("nan") for each in (LIVE, FROZEN))
    found = float(norms.mean()), float(norms.max()), trained
    reason = _reason(live, frozen, weight, *found[1:])
    return Health(live, frozen, float(weight * SCORED_EVERY), *found, reason)


def _lengths(vectors: Floats) -> Floats:
    found: Floats = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))
    return found


def _reason(live: float, frozen: float, weight: float, longest: float, trained: float) -> str:
    if not np.isfinite(longest) or (weight and not np.isfinite(live)):
        return f"a vector or the loss is no number (longest vector {longest}, loss {live})"
    if longest > MAX_STRETCH * max(trained, 1.0):
        return f"the longest item vector is {longest:.3g} long, the longest as trained {trained:.3g}"
    if weight >= MIN_SCORED and live > frozen + MAX_LOSS_ABOVE:
        return f"the stream's events have a loss of {live:.3f}, with the vectors as trained {frozen:.3f}"
    return ""
