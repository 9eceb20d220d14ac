"""Losses of candidates that are labelled, for whatever gives log-odds; small functions, (...) as the scores.

Positives may be rare: they can weigh more, and what is told well already can weigh less.
"""

import math

from torch import Tensor
from torch.nn import functional


def label_losses(
    scores: Tensor, label: Tensor, positive_weight: float = 1.0, focal_gamma: float = 0.0
) -> Tensor:
    """Return -w (1 - p)^gamma log p of positives, -p^gamma log(1 - p) of negatives, p = sigmoid(score).

    Without gamma it is the weighted binary cross-entropy. Source: focal loss, Lin et al. 2017 (arXiv
    1708.02002) eq. 5, where w is alpha / (1 - alpha) but for a factor of all.
    """
    signed = scores * (2 * label - 1)
    losses = functional.softplus(-signed)
    if focal_gamma:
        losses = losses * (focal_gamma * functional.logsigmoid(-signed)).exp()
    return losses * class_weights(label, positive_weight)


def class_weights(label: Tensor, positive_weight: float) -> Tensor:
    """Return how much each label counts, a negative 1."""
    return 1 + (positive_weight - 1) * label


def shifted(scores: Tensor, positive_weight: float) -> Tensor:
    """Return scores as a weighted loss takes them, so that without gamma what is learned are the true odds.

    A loss in which positives weigh w learns odds that are w times too high: it is given w times the odds.
    """
    return scores + math.log(positive_weight)
