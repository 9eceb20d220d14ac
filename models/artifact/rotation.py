"""One model's space turned onto another's, for those who keep vectors and compare old ones with new ones."""

import copy

import numpy as np
import torch
from scipy.linalg import orthogonal_procrustes

from models.arrays import Floats
from models.artifact.artifact import Artifact, save
from models.errors import ArtifactError
from models.location import Location


def rotate_onto(artifact: Artifact, other: Artifact, store: Location) -> Artifact:
    """Save the model into a store, its vectors turned so that items lie as near to the other's as can be.

    All dot products stay as they are, and so does every ranking. Items that only one of the two knows have no
    say. Orthogonal Procrustes (Schoenemann 1966). Raises ArtifactError where the two have no common item, or
    vectors of different length.
    """
    ours, theirs = common_items(artifact, other)
    turn, _ = orthogonal_procrustes(ours.astype(np.float64), theirs.astype(np.float64))  # (D, D)
    towers = copy.deepcopy(artifact.towers)
    before = torch.eye(len(turn)) if towers.rotation is None else towers.rotation
    towers.rotation = (before.double() @ torch.from_numpy(turn)).float()
    training = {**artifact.training, "rotated_onto": other.version}
    return save(store, towers, artifact.vocabulary, artifact.settings, artifact.metrics, training)


def common_items(artifact: Artifact, other: Artifact) -> tuple[Floats, Floats]:
    """Return the vectors (C, D) of the items that both models know, of each model."""
    places = {item_id: place for place, item_id in enumerate(other.item_ids)}
    common = [(own, places[item_id]) for own, item_id in enumerate(artifact.item_ids) if item_id in places]
    lengths = artifact.items.dimension, other.items.dimension
    if not common or lengths[0] != lengths[1]:
        raise ArtifactError(
            f"models {artifact.version} and {other.version} have {len(common)} common items and vectors of "
            f"{lengths[0]} and {lengths[1]} dimensions: one space cannot be turned onto the other"
        )
    own, their = np.array(common).T
    return artifact.item_vectors[own], other.item_vectors[their]


def mean_cosine(ours: Floats, theirs: Floats) -> float:
    """Return the mean cosine between rows (C, D), those without a direction left out."""
    lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    products = (ours * theirs).sum(axis=1)
    return float((products[lengths > 0] / lengths[lengths > 0]).mean())
