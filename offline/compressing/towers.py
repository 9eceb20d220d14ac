"""Dual towers that can be made smaller."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.artifact.artifact import Artifact, save_model
from models.errors import ArtifactError, DataError
from models.inference.tower_model import TowerModel
from models.log.behaviour_log import BehaviourLog
from models.towers.weights import TowerWeights
from models.windows.histories import Histories
from models.windows.log_histories import histories_of_log
from offline.compressing.contract import CompressSettings, Ranked
from offline.compressing.weights import compressed
from offline.options import cutoff_of
from offline.ranking.metrics import gains_in_ten
from offline.ranking.protocols import LEAST_ROWS, are_last
from offline.training.data import Stretches
from offline.training.held_out import asked_users, ranks_among
from offline.training.pieces import has_targets, material_of

#: Users who are encoded to see how long it takes.
TIMED_USERS = 1_000
#: Tables that only training and item vectors read, so that a worker's memory has none of them.
NOT_READ = "_difference."


@dataclass(frozen=True, slots=True)
class CompressibleTowers:
    """An artifact of dual towers; what the rows held out ask; histories of some users."""

    artifact: Artifact
    asked: Stretches
    users: Histories

    @property
    def version(self) -> str:
        return self.artifact.version

    @property
    def items(self) -> int:
        return len(self.artifact.item_ids)

    @property
    def directory(self) -> Path:
        return self.artifact.path

    @property
    def training(self) -> Mapping[str, Any]:
        return self.artifact.training

    @property
    def metrics(self) -> Mapping[str, Any]:
        return self.artifact.metrics

    def smaller(
        self,
        folder: Path,
        settings: CompressSettings,
        metrics: Mapping[str, Any],
        training: Mapping[str, Any],
    ) -> "CompressibleTowers":
        """Write them, made smaller, into a folder; see `Compressible.smaller`."""
        artifact = self.artifact
        weights = compressed(_weights(artifact), settings.int8, settings.prune)
        of_towers = artifact.settings.features

        def towers() -> Any:
            from models.towers.loading import towers_of

            return towers_of(weights, artifact.vocabulary, of_towers)

        model = TowerModel(weights, of_towers, towers, leaves_zeros_out=bool(settings.prune))
        saved = save_model(folder, model, artifact.vocabulary, artifact.settings, metrics, training)
        return replace(self, artifact=saved)

    def ranked(self) -> Ranked:
        """Return how good they are, over all items, by the vectors that are stored."""
        items = torch.from_numpy(self.artifact.item_vectors)
        gains = gains_in_ten(ranks_among(items, asked_users(self.artifact.towers, self.asked)))
        return Ranked(gains, {"ndcg@10": float(gains.mean())})

    def read_bytes(self) -> int:
        """Return the bytes of what encoding reads."""
        arrays = _weights(self.artifact).arrays
        return sum(array.nbytes for name, array in arrays.items() if NOT_READ not in name)

    def answer(self) -> int:
        """Encode the users; return how many."""
        self.artifact.encode(self.users)
        return len(self.users)


def compressible_towers(
    artifact: Artifact, held_out: Artifact, log: BehaviourLog
) -> tuple[CompressibleTowers, CompressibleTowers]:
    """Return an artifact and its version that has not learned the last rows of the log, with these.

    ArtifactError where they are no dual towers, DataError where no row can be asked.
    """
    for each in (artifact, held_out):
        _weights(each)
    is_last = held_out.training.get("protocol") == "leave-one-out"
    rows = are_last(log, LEAST_ROWS) if is_last else log.time_ms >= cutoff_of(held_out, None)
    material = material_of(log, held_out.vocabulary, held_out.settings)
    asked = material.stretches(rows[log.by_user()])
    if not has_targets(asked):
        raise DataError(
            f"{log.path}: no row that {held_out.version} has not learned has an item that it knows, behind "
            "another row of its user: give the log that it was trained on"
        )
    _, histories = histories_of_log(log, held_out.vocabulary, held_out.settings.window)
    users = histories.take(np.arange(TIMED_USERS) % len(histories))
    before, after = (CompressibleTowers(each, asked, users) for each in (artifact, held_out))
    return before, after


def _weights(artifact: Artifact) -> TowerWeights:
    if not isinstance(artifact.model, TowerModel):
        raise ArtifactError(
            f"model {artifact.version} has no dual towers and is no ranker, and only these can be "
            "compressed: name another"
        )
    return artifact.model.weights
