"""Floating-point operations: how many a GPU computes, and how many the towers need for a user."""

from collections.abc import Sequence

import torch
from torch.utils.benchmark import Timer
from torch.utils.flop_counter import FlopCounterMode

from models.artifact.artifact import Artifact
from models.towers.features import features
from models.windows.histories import histories_of_windows

#: Width of the square matrices whose product is a device's peak.
PEAK_WIDTH = 8_192


def peak_operations(dtype: torch.dtype) -> float:
    """Return the floating-point operations a second of the GPU's product of two large matrices."""
    left, right = torch.randn(2, PEAK_WIDTH, PEAK_WIDTH, device="cuda", dtype=dtype)
    timer = Timer("left @ right", globals={"left": left, "right": right})
    return float(2 * PEAK_WIDTH**3 / timer.blocked_autorange().median)


def operations_per_user(artifact: Artifact, values: Sequence[bytes]) -> float:
    """Return the floating-point operations per user of the towers asked at the newest event, unpadded."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        for value in values:
            histories = histories_of_windows([value], artifact.vocabulary)
            artifact.towers(features(histories, artifact.settings.features))
    return float(counter.get_total_flops() / len(values))
