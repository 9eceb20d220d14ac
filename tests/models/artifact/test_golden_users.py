"""An artifact that does not encode as it did when it was saved is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.artifact.artifact import Artifact, load, save
from models.artifact.golden_users import LENGTHS
from models.artifact.settings import ArtifactSettings
from models.errors import ArtifactError
from models.ids.vocabulary import Vocabulary
from models.item_table import VECTORS, ItemTable
from models.towers.dual_towers import DualTowers
from models.towers.settings import ModelSettings


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    torch.manual_seed(0)
    vocabulary = Vocabulary(
        [f"i{item}" for item in range(30)], [2 + item % 3 for item in range(30)], list("abc")
    )
    settings = ArtifactSettings(model=ModelSettings(dimension=16))
    towers = DualTowers(vocabulary, settings.features, settings.model)
    return load(save(tmp_path, towers, vocabulary, settings, {}, {}).path)


def test_artifact_as_saved_passes(artifact: Artifact) -> None:
    artifact.check_golden()
    assert artifact.golden_vectors is not None
    assert artifact.golden_vectors.shape == (len(LENGTHS), 16)


def test_other_vectors_than_saved_are_refused(artifact: Artifact) -> None:
    assert artifact.golden_vectors is not None
    other = artifact.golden_vectors.copy()
    other[3, 5] += 0.01
    with pytest.raises(ArtifactError, match="otherwise than when it was saved"):
        replace(artifact, golden_vectors=other).check_golden()


def test_without_golden_vectors_the_vectors_must_make_sense(artifact: Artifact) -> None:
    replace(artifact, golden_vectors=None).check_golden()
    items = artifact.item_vectors.copy()
    items[0, 0] = np.nan
    with pytest.raises(ArtifactError, match="item vectors that are not finite"):
        replace(artifact, golden_vectors=None, items=ItemTable({VECTORS: items})).check_golden()


def test_model_that_says_the_same_of_everybody_is_refused(artifact: Artifact) -> None:
    with torch.no_grad():
        for parameter in artifact.towers.parameters():
            parameter.zero_()
    with pytest.raises(ArtifactError, match="same vector"):
        replace(artifact, golden_vectors=None).check_golden()
