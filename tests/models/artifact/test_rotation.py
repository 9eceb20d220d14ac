"""Turning a space: what was turned away comes back, and no dot product changes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.artifact.artifact import Artifact, load, save
from models.artifact.rotation import common_items, mean_cosine, rotate_onto
from models.artifact.settings import ArtifactSettings
from models.errors import ArtifactError
from models.ids.vocabulary import Vocabulary
from models.ids.vocabulary_file import FIRST_KNOWN
from models.inference.inference import Inference
from models.inference.padded_towers import PaddedTowers
from models.item_table import VECTORS, ItemTable
from models.towers.dual_towers import DualTowers
from models.towers.settings import ModelSettings
from models.windows.histories import Histories

DIMENSION = 16


def make(store: Path, seed: int, items: range = range(40), **model: Any) -> Artifact:
    vocabulary = Vocabulary([f"i{number}" for number in items], [2] * len(items), ["c"])
    settings = ArtifactSettings(model=ModelSettings(**{"dimension": DIMENSION} | model))
    torch.manual_seed(seed)
    towers = DualTowers(vocabulary, settings.features, settings.model)
    with torch.no_grad():
        for parameter in towers.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    towers.items.set_popularity(torch.randn(len(items)))
    return save(store, towers, vocabulary, settings, {}, {"seed": seed})


def turned(artifact: Artifact, seed: int) -> Artifact:
    """Return the model turned by an arbitrary rotation."""
    random = np.random.default_rng(seed).normal(size=(DIMENSION, DIMENSION))
    vectors = artifact.item_vectors @ np.linalg.qr(random)[0].astype(np.float32)
    return rotate_onto(
        artifact,
        replace(artifact, version="anywhere", items=ItemTable({VECTORS: vectors})),
        artifact.path.parent,
    )


def users() -> Histories:
    counts = np.array([0, 1, 7, 60])
    events = np.arange(counts.sum())
    return Histories(
        item=FIRST_KNOWN + events * 7 % 40,
        category=np.full(len(events), 2),
        behaviour=(1 + events % 4).astype(np.uint8),
        time_ms=events * 700_000,
        starts=np.concatenate(([0], np.cumsum(counts))),
    )


def test_a_space_that_was_turned_away_comes_back(tmp_path: Path) -> None:
    artifact = make(tmp_path, seed=0)
    away = turned(artifact, seed=1)
    assert mean_cosine(away.item_vectors, artifact.item_vectors) < 0.9
    back = rotate_onto(away, artifact, tmp_path)
    np.testing.assert_allclose(back.item_vectors, artifact.item_vectors, atol=1e-5)
    for found, expected in zip(_vectors(back), _vectors(artifact), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)
    assert back.training["rotated_onto"] == artifact.version


@pytest.mark.parametrize("score", ["dot", "cosine"])
def test_no_dot_product_changes_and_the_items_come_nearer(tmp_path: Path, score: str) -> None:
    artifact, other = make(tmp_path, seed=0, score=score), make(tmp_path, seed=1, items=range(10, 50))
    rotated = load(rotate_onto(artifact, other, tmp_path).path)
    for vectors, before in zip(_vectors(rotated), _vectors(artifact), strict=True):
        scores = vectors @ rotated.item_vectors.T
        np.testing.assert_allclose(scores, before @ artifact.item_vectors.T, atol=1e-4)
    near, far = (mean_cosine(*common_items(each, other)) for each in (rotated, artifact))
    assert near > far + 0.1
    padded = Inference(rotated.towers.weights(), rotated.settings.features, PaddedTowers(rotated.towers))
    np.testing.assert_allclose(padded.encode(users()).user, rotated.encode(users()).user, atol=1e-5)


def test_models_without_a_common_item_or_dimension_are_refused(tmp_path: Path) -> None:
    artifact = make(tmp_path, seed=0)
    with pytest.raises(ArtifactError, match="0 common items"):
        rotate_onto(artifact, make(tmp_path, seed=1, items=range(100, 110)), tmp_path)
    with pytest.raises(ArtifactError, match="16 and 32 dimensions"):
        rotate_onto(artifact, make(tmp_path, seed=1, dimension=32), tmp_path)


def _vectors(artifact: Artifact) -> tuple[np.ndarray, ...]:
    found = artifact.encode(users())
    return found.user, found.long, found.short
