"""Small models and logs for the tests of the trainer."""

import numpy as np
import torch

from models.artifact.settings import ArtifactSettings
from models.ids.vocabulary import Vocabulary
from models.log.behaviour_log import BehaviourLog, Column
from models.towers.dual_towers import DualTowers
from offline.training.continuing import Learned


def learned(item_ids: list[str]) -> Learned:
    """Return an untrained model that knows these items, of one category."""
    settings, vocabulary = ArtifactSettings(), Vocabulary(item_ids, [1] * len(item_ids), ["k"])
    torch.manual_seed(0)
    towers = DualTowers(vocabulary, settings.features, settings.model)
    with torch.no_grad():
        for parameter in towers.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return Learned(towers, vocabulary, settings, {})


def log_of(times_ms: list[int]) -> BehaviourLog:
    """Return a log of one user and one item with rows of these times."""
    one = Column(np.zeros(len(times_ms), np.int32), np.array(["a"], object))
    return BehaviourLog(
        path="log",
        fingerprint="f",
        precision_ms=1,
        user=one,
        item=one,
        category=one,
        geohash=one,
        behaviour=np.ones(len(times_ms), np.uint8),
        time_ms=np.array(times_ms, np.int64),
        line=np.arange(len(times_ms)),
    )
