"""The loss of a batch of labelled candidates, by the settings of a training."""

from torch import Tensor

from offline.rankers.samples import Asked
from offline.rankers.settings import LabelLossSettings
from offline.training.label_losses import class_weights, label_losses, shifted


class LabelLoss:
    """The loss of a batch's labels, each candidate by its weight and its label's."""

    def __init__(self, settings: LabelLossSettings, positives: float, negatives: float) -> None:
        """positives, negatives: how many of each there are, for "balanced"."""
        self.positive_weight = settings.weight_of(positives, negatives)
        self._gamma = settings.focal_gamma

    def weight(self, asked: Asked) -> float:
        """Return what the whole batch weighs."""
        return float((asked.weight * class_weights(asked.label, self.positive_weight)).sum())

    def total(self, scores: Tensor, asked: Asked) -> Tensor:
        """Return the sum of the losses of scores (B, C)."""
        given = shifted(scores, self.positive_weight)
        return (label_losses(given, asked.label, self.positive_weight, self._gamma) * asked.weight).sum()
