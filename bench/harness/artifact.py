"""An untrained artifact: encoding costs the same whatever the weights are."""

from pathlib import Path

import torch

from models.artifact import artifact as artifacts
from models.ids.vocabulary import Vocabulary
from models.towers.dual_towers import DualTowers


def publish_untrained(store: Path, vocabulary: Vocabulary) -> None:
    """Publish an artifact with random weights, and every setting at its default, in `store`."""
    torch.manual_seed(0)
    settings = artifacts.ArtifactSettings()
    towers = DualTowers(vocabulary, settings.features, settings.model)
    with torch.no_grad():  # what starts at 0 would hide what is computed wrongly
        for parameter in towers.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    saved = artifacts.save(store, towers, vocabulary, settings, {}, {})
    artifacts.publish(store, saved.version)
