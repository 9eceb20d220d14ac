"""The model without one of its parts, trained to see what the part is worth."""

import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from models.log.behaviour_log import BehaviourLog
from offline.training.ablation import PARTS
from offline.training.run import train
from offline.training.settings import TrainingConfig

#: The variant that has all parts.
WHOLE = "everything"
#: What each variant sets.
VARIANTS: Mapping[str, Mapping[str, object]] = {
    WHOLE: {},
    # No pause ends a session: events differ only by their place.
    "sessions": {"gap_ms": 2**62},
    "contrast": {"contrast_weight": 0.0},
    **{name: {"without": [name]} for name in PARTS},
}


class VariantFigures(NamedTuple):
    """NDCG@10 of the validation and the test slice, and how long the training took (s)."""

    validation: float
    test: float
    seconds: float


def train_variant(log: BehaviourLog, config: TrainingConfig) -> VariantFigures:
    """Train once, publish nothing, and return how well it ranks."""
    started = time.monotonic()
    with TemporaryDirectory() as store:
        metrics = train(log, config, Path(store)).artifact.metrics
    validation, test = (metrics[name]["ndcg_at_10"] for name in ("validation", "test"))
    return VariantFigures(validation, test, time.monotonic() - started)
