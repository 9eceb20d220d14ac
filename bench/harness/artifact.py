"""Untrained artifacts: encoding costs the same whatever the weights are."""

from pathlib import Path

import torch

from models.artifact import artifact as artifacts
from models.artifact.artifact import Artifact
from models.artifact.settings import ArtifactSettings
from models.ids.vocabulary import Vocabulary
from models.towers.dual_towers import DualTowers


def publish_untrained(store: Path, vocabulary: Vocabulary) -> None:
    """Publish an artifact with random weights, and every setting at its default, in `store`."""
    artifacts.publish(store, _untrained(store, vocabulary, seed=0).version)


def two_untrained(store: Path, vocabulary: Vocabulary) -> tuple[Path, Path]:
    """Return two such artifacts of a store, unpublished."""
    first, second = (_untrained(store, vocabulary, seed).path for seed in range(2))
    return first, second


def _untrained(store: Path, vocabulary: Vocabulary, seed: int) -> Artifact:
    torch.manual_seed(seed)
    settings = ArtifactSettings()
    towers = DualTowers(vocabulary, settings.features, settings.model)
    with torch.no_grad():  # what starts at 0 would hide what is computed wrongly
        for parameter in towers.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return artifacts.save(store, towers, vocabulary, settings, {}, {})
