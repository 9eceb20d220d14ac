"""A model chosen by held-out rows, which it has not learned from: how well it ranks, and what it took."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from models.artifact.artifact import ArtifactSettings
from models.errors import DataError
from models.ids.log_vocabulary import vocabulary_of_log
from models.ids.vocabulary import Vocabulary
from models.log.behaviour_log import BehaviourLog
from models.sessions import default_gap_ms
from models.towers.dual_towers import DualTowers
from offline.ranking.metrics import Ranking, summarise
from offline.training.ablation import leave_out
from offline.training.data import Slices, Stretches, return_share, slice_log
from offline.training.half_lives import HalfLives
from offline.training.held_out import target_ranks
from offline.training.learner import Course
from offline.training.loop import default_epochs, fit
from offline.training.parallel import Processes
from offline.training.pieces import stretches_of
from offline.training.progress import Epoch
from offline.training.settings import TrainingConfig, TrainSettings, to_plain
from offline.training.weighing import ItemWeights, find_weights, weigh


@dataclass(frozen=True, slots=True)
class Selected:
    """Towers with the best epoch's weights, what they know, how they were chosen, and how they rank then.

    In them, what was learned of items is multiplied by `weights`.
    """

    towers: DualTowers
    vocabulary: Vocabulary
    settings: ArtifactSettings
    half_lives: HalfLives
    slices: Slices
    planned_epochs: int
    epochs: list[Epoch]
    weights: ItemWeights
    validation: Ranking
    test: Ranking

    @property
    def best(self) -> Epoch:
        """The epoch that ranked the validation slice best."""
        return max(self.epochs, key=lambda epoch: epoch.validation.ndcg)

    @property
    def metrics(self) -> dict[str, Any]:
        """What training measured, as plain values."""
        return {
            "best_epoch": self.best.number,
            "epochs": [asdict(epoch) for epoch in self.epochs],
            "validation": asdict(self.validation),
            "test": asdict(self.test),
        }


@dataclass(frozen=True, slots=True)
class Ground:
    """What a fit starts from: a log's slices, what is known of it, and what each slice asks."""

    settings: ArtifactSettings
    slices: Slices
    vocabulary: Vocabulary
    pieces: dict[str, Stretches]
    half_lives: HalfLives


def select(
    log: BehaviourLog,
    config: TrainingConfig,
    on_epoch: Callable[[Epoch], None],
    checkpoint: Path,
    processes: Processes,
) -> Selected:
    """Fit on the training slice of a log, choose by its validation slice, and test once.

    DataError where the log is too small.
    """
    ground = prepare(log, config)
    towers, epochs = fit_on(ground, config, on_epoch, checkpoint, processes)
    weights, ranks = find_weights(towers, ground.pieces["validation"], processes)
    weigh(towers, weights)
    return Selected(
        towers,
        ground.vocabulary,
        ground.settings,
        ground.half_lives,
        ground.slices,
        planned_epochs(ground, config, processes),
        epochs,
        weights,
        validation=summarise(ranks),
        test=summarise(target_ranks(towers, ground.pieces["test"], processes=processes)),
    )


def prepare(log: BehaviourLog, config: TrainingConfig) -> Ground:
    """Return what a fit of a log starts from. DataError where the log is too small."""
    settings = artifact_settings(log, config)
    slices = slice_log(log, config.train)
    vocabulary = _vocabulary(log, slices, config)
    pieces, half_lives = stretches_of(log, slices, vocabulary, settings, config.train)
    return Ground(settings, slices, vocabulary, pieces, half_lives)


def fit_on(
    ground: Ground,
    config: TrainingConfig,
    on_epoch: Callable[[Epoch], None],
    checkpoint: Path,
    processes: Processes,
) -> tuple[DualTowers, list[Epoch]]:
    """Return towers with the best epoch's weights, and all epochs; the test slice is not looked at."""
    pieces = ground.pieces
    towers = untrained(ground.vocabulary, ground.settings, pieces["train"], config.train)
    course = Course(planned_epochs(ground, config, processes), ground.half_lives.popularity_h)
    slices_of_fit = pieces["train"], pieces["validation"]
    epochs = fit(towers, *slices_of_fit, config.train, course, on_epoch, checkpoint, processes)
    return towers, epochs


def untrained(
    vocabulary: Vocabulary, settings: ArtifactSettings, train: Stretches, train_settings: TrainSettings
) -> DualTowers:
    """Return the towers that a fit on these stretches begins with; they follow from the seed."""
    torch.manual_seed(train_settings.seed)
    towers = DualTowers(vocabulary, settings.features, settings.model)
    towers.items.expect_returns(return_share(train, len(vocabulary.item_ids)))
    leave_out(towers, train_settings.without)
    return towers


def planned_epochs(ground: Ground, config: TrainingConfig, processes: Processes) -> int:
    """Return how many passes a fit makes at most."""
    return config.train.epochs or default_epochs(ground.pieces["train"], config.train, processes)


def artifact_settings(log: BehaviourLog, config: TrainingConfig) -> ArtifactSettings:
    """Return the settings of a log's artifact: the gap between sessions is learned where it is not given."""
    features = config.features
    if not config.is_gap_given:
        features = replace(features, gap_ms=default_gap_ms(log.precision_ms))
    return ArtifactSettings(config.window, features, config.model)


def run_hash(log: BehaviourLog, config: TrainingConfig, processes: Processes) -> str:
    """Return a short hash of all that the result depends on; the same training resumes by it."""
    settings = asdict(artifact_settings(log, config)), to_plain(config.train)
    parts = [log.fingerprint, len(log), *settings, processes.count]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


def checkpoint_of(folder: Path, log: BehaviourLog, config: TrainingConfig, processes: Processes) -> Path:
    """Return the file in which a training keeps where it stands; others of it have longer names."""
    return folder / f".training-{run_hash(log, config, processes)}"


def _vocabulary(log: BehaviourLog, slices: Slices, config: TrainingConfig) -> Vocabulary:
    settings: TrainSettings = config.train
    vocabulary = vocabulary_of_log(log.select(slices.train), settings.min_item_count, settings.max_items)
    if len(vocabulary.item_ids) < 2:
        raise DataError(
            f"{log.path}: {len(vocabulary.item_ids)} items have {settings.min_item_count} or more of the "
            f"{int(slices.train.sum())} training rows; two are needed: give a longer log"
        )
    return vocabulary
