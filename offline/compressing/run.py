"""An artifact -> a smaller one, published where it ranks held-out rows nearly as well."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from models.arrays import Doubles
from models.artifact.artifact import COMPRESSED, Artifact, save_model
from models.artifact.stores import open_store
from models.errors import ArtifactError, DataError, SettingsError, TwintideError
from models.inference.tower_model import TowerModel
from models.location import Location
from models.log.behaviour_log import BehaviourLog
from models.towers.weights import TowerWeights
from models.windows.histories import Histories
from models.windows.log_histories import histories_of_log
from offline.compressing.weights import compressed
from offline.options import cutoff_of
from offline.ranking.metrics import gains_in_ten
from offline.ranking.protocols import are_last
from offline.training.data import Stretches
from offline.training.held_out import asked_users, ranks_among
from offline.training.pieces import has_targets, material_of

#: Users who are encoded to see how long it takes, and how often: the fastest counts.
TIMED_USERS, ROUNDS = 1_000, 7
#: Tables that only training and item vectors read, so that a worker's memory has none of them.
NOT_READ = "_difference."


class TooLossyError(TwintideError):
    """What was made ranks worse by more than was allowed."""


@dataclass(frozen=True, slots=True)
class CompressSettings:
    """How much smaller, and what it may cost; the command checks no more than this."""

    #: Whether tables and item vectors become int8, with a scale for each row.
    int8: bool = False
    #: Share of each matrix's weights, the smallest, that become zero.
    prune: float = 0.0
    #: By how much NDCG@10 may fall.
    max_loss: float = 0.01

    def __post_init__(self) -> None:
        if not 0 <= self.prune < 1:
            raise SettingsError(f"--prune is {self.prune}; it must be at least 0 and under 1")
        if not 0 <= self.max_loss <= 1:
            raise SettingsError(f"--max-loss is {self.max_loss}; it must be from 0 to 1")
        if not self.int8 and not self.prune:
            raise SettingsError("nothing is to be compressed: give --int8, --prune 0.5, or both")


@dataclass(frozen=True, slots=True)
class Size:
    """Bytes of all files, bytes of what encoding reads, how long a user takes (us), and NDCG@10."""

    disk_bytes: int
    read_bytes: int
    us_per_user: float
    ndcg_at_10: float


@dataclass(frozen=True, slots=True)
class Compressed:
    """A model before and after, over `rows` rows; loss of NDCG@10 and half its 95 % confidence interval.

    Figures are of the versions that have not learned the rows held out.
    """

    before: Size
    after: Size
    rows: int
    loss: float
    error: float
    version: str
    publication: int


def compress(
    artifact: Artifact, held_out: Artifact, log: BehaviourLog, settings: CompressSettings, into: Location
) -> Compressed:
    """Compress an artifact and its version that has not learned the held-out rows, and publish the first.

    The two may be one. publication is 0, and nothing is written into the store, where the loss is too large.
    ArtifactError where they are no dual towers, DataError where the log has no row to rank.
    """
    asked = _held_out(held_out, log)
    _, histories = histories_of_log(log, held_out.vocabulary, held_out.settings.window)
    store = open_store(into)
    store.prepare()
    with TemporaryDirectory() as folder:
        small_held_out = _saved(Path(folder), held_out, settings, held_out.metrics)
        sides = [held_out, small_held_out]
        found = [_gains(each, asked) for each in sides]
        lost = found[0] - found[1]
        loss, error = float(lost.mean()), float(1.96 * lost.std() / np.sqrt(len(lost)))
        taken_us = _microseconds(sides, histories)
        before, after = (
            Size(_disk_bytes(each), _read_bytes(_weights(each)), taken_us[place], float(found[place].mean()))
            for place, each in enumerate(sides)
        )
        small, number = small_held_out, 0
        if artifact.version != held_out.version:
            figures = {"loss": loss, "error": error, "from": artifact.version}
            metrics = {**artifact.metrics, COMPRESSED: figures}
            said = {"held_out_version": small_held_out.version}
            small = _saved(Path(folder), artifact, settings, metrics, said)
        if loss <= settings.max_loss:
            for each in (small_held_out, small):
                store.add(each.path, each.version)
            number = store.publish(small.version)
    return Compressed(before, after, len(lost), loss, error, small.version, number)


def _saved(
    folder: Path,
    artifact: Artifact,
    settings: CompressSettings,
    metrics: Mapping[str, Any],
    said: Mapping[str, Any] | None = None,
) -> Artifact:
    """Write an artifact made smaller into a folder, and return it as it is loaded from there."""
    if COMPRESSED in artifact.training:
        before = artifact.training[COMPRESSED]["from"]
        raise SettingsError(f"model {artifact.version} is compressed already, from {before}: name that one")
    training = {
        **artifact.training,
        COMPRESSED: {"from": artifact.version, "int8": settings.int8, "prune": settings.prune},
        **(said or {}),
    }
    weights = compressed(_weights(artifact), settings.int8, settings.prune)
    of_towers = artifact.settings.features

    def towers() -> Any:
        from models.towers.loading import towers_of

        return towers_of(weights, artifact.vocabulary, of_towers)

    model = TowerModel(weights, of_towers, towers, leaves_zeros_out=bool(settings.prune))
    return save_model(folder, model, artifact.vocabulary, artifact.settings, metrics, training)


def _weights(artifact: Artifact) -> TowerWeights:
    if not isinstance(artifact.model, TowerModel):
        raise ArtifactError(
            f"model {artifact.version} has no dual towers, and only these can be compressed: name another"
        )
    return artifact.model.weights


def _held_out(artifact: Artifact, log: BehaviourLog) -> Stretches:
    """Return what the rows of a log ask that an artifact has not learned."""
    is_last = artifact.training.get("protocol") == "leave-one-out"
    rows = are_last(log) if is_last else log.time_ms >= cutoff_of(artifact, None)
    asked = material_of(log, artifact.vocabulary, artifact.settings).stretches(rows[log.by_user()])
    if not has_targets(asked):
        raise DataError(
            f"{log.path}: no row that {artifact.version} has not learned has an item that it knows, behind "
            "another row of its user: give the log that it was trained on"
        )
    return asked


def _gains(artifact: Artifact, asked: Stretches) -> Doubles:
    """Return what each target (M,) adds to NDCG@10, by the vectors that are stored."""
    items = torch.from_numpy(artifact.item_vectors)
    return gains_in_ten(ranks_among(items, asked_users(artifact.towers, asked)))


def _disk_bytes(artifact: Artifact) -> int:
    return sum(file.stat().st_size for file in artifact.path.iterdir())


def _read_bytes(weights: TowerWeights) -> int:
    return sum(array.nbytes for name, array in weights.arrays.items() if NOT_READ not in name)


def _microseconds(artifacts: Sequence[Artifact], histories: Histories) -> list[float]:
    """Return how long each takes for a user of these, one after the other in each round."""
    some = histories.take(np.arange(TIMED_USERS) % len(histories))
    fastest = [np.inf] * len(artifacts)
    for _ in range(ROUNDS):
        for place, artifact in enumerate(artifacts):
            began_s = time.perf_counter()
            artifact.encode(some)
            fastest[place] = min(fastest[place], time.perf_counter() - began_s)
    return [each / TIMED_USERS * 1e6 for each in fastest]
