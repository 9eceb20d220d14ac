"""A model chosen by held-out rows, which it has not learned from: how well it ranks, and what it took."""

import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.artifact.settings import ArtifactSettings
from models.errors import DataError
from models.ids.log_vocabulary import vocabulary_of_log
from models.ids.vocabulary import Vocabulary
from models.log.behaviour_log import BehaviourLog
from models.rankers.load import LoadedRanker
from models.sessions import default_gap_ms
from models.towers.dual_towers import DualTowers
from offline.ranking.metrics import Ranking, Ranks, gains, summarise
from offline.training.ablation import leave_out
from offline.training.data import Slices, Stretches, return_share, slice_log
from offline.training.half_lives import HalfLives
from offline.training.held_out import target_ranks
from offline.training.learner import Course
from offline.training.lessons import Lessons, lessons_of
from offline.training.loop import default_epochs, fit
from offline.training.parallel import Processes
from offline.training.pieces import stretches_of
from offline.training.progress import Epoch
from offline.training.settings import TrainingConfig, TrainSettings, to_plain
from offline.training.weighing import ItemWeights, find_weights, weigh

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Distilled:
    """What a teacher brings: NDCG of the validation slice with and without it, and the difference's error.

    The error is the standard error of the difference, target by target.
    """

    alone: float
    taught: float
    error: float

    @property
    def helps(self) -> bool:
        """Whether it brings more than its error."""
        return self.taught - self.alone > self.error


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
    #: What a teacher brought, where there was one.
    distilled: Distilled | None = None

    @property
    def best(self) -> Epoch:
        """The epoch that ranked the validation slice best."""
        return max(self.epochs, key=lambda epoch: epoch.validation.ndcg)

    @property
    def metrics(self) -> dict[str, Any]:
        """What training measured, as plain values."""
        found = {
            "best_epoch": self.best.number,
            "epochs": [asdict(epoch) for epoch in self.epochs],
            "validation": asdict(self.validation),
            "test": asdict(self.test),
        }
        return {**found, "teacher": asdict(self.distilled)} if self.distilled else found

    @property
    def is_taught(self) -> bool:
        """Whether a teacher helped."""
        return self.distilled is not None and self.distilled.helps


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
    teacher: LoadedRanker | None = None,
) -> Selected:
    """Fit on the training slice of a log, choose by its validation slice, and test once.

    teacher: a ranker that has learned the training slice alone; the towers learn without it, then with it,
    and those are kept that rank better. DataError where the log is too small.
    """
    ground = prepare(log, config)
    fitted = _fitted(ground, config, on_epoch, checkpoint, processes)
    distilled: Distilled | None = None
    if teacher is not None:
        asked = teacher, ground.pieces["train"], ground.vocabulary, ground.settings.window, config.train
        lessons = processes.from_first(lambda: lessons_of(*asked))
        logger.info("the same again, with a teacher")
        file = checkpoint.with_name(checkpoint.name + ".taught")
        taught = _fitted(ground, config, on_epoch, file, processes, lessons)
        distilled = _compared(fitted.ranks, taught.ranks)
        fitted = taught if distilled.helps else fitted
    weigh(fitted.towers, fitted.weights)
    return Selected(
        fitted.towers,
        ground.vocabulary,
        ground.settings,
        ground.half_lives,
        ground.slices,
        planned_epochs(ground, config, processes),
        fitted.epochs,
        fitted.weights,
        validation=summarise(fitted.ranks),
        test=summarise(target_ranks(fitted.towers, ground.pieces["test"], processes=processes)),
        distilled=distilled,
    )


@dataclass(frozen=True, slots=True)
class _Fitted:
    """Towers of the best epoch, all epochs, the weights that rank the validation slice best, those ranks."""

    towers: DualTowers
    epochs: list[Epoch]
    weights: ItemWeights
    ranks: Ranks


def _fitted(
    ground: Ground,
    config: TrainingConfig,
    on_epoch: Callable[[Epoch], None],
    checkpoint: Path,
    processes: Processes,
    lessons: Lessons | None = None,
) -> _Fitted:
    towers, epochs = fit_on(ground, config, on_epoch, checkpoint, processes, lessons)
    return _Fitted(towers, epochs, *find_weights(towers, ground.pieces["validation"], processes))


def _compared(alone: Ranks, taught: Ranks) -> Distilled:
    gain = gains(taught) - gains(alone)
    error = float(gain.std() / np.sqrt(len(gain)))
    return Distilled(float(gains(alone).mean()), float(gains(taught).mean()), error)


def prepare(log: BehaviourLog, config: TrainingConfig) -> Ground:
    """Return what a fit of a log starts from. DataError where the log is too small."""
    settings = artifact_settings(log, config)
    slices = slice_log(log, config.train)
    log.release()
    vocabulary = _vocabulary(log, slices, config)
    pieces, half_lives = stretches_of(log, slices, vocabulary, settings, config.train)
    return Ground(settings, slices, vocabulary, pieces, half_lives)


def fit_on(
    ground: Ground,
    config: TrainingConfig,
    on_epoch: Callable[[Epoch], None],
    checkpoint: Path,
    processes: Processes,
    lessons: Lessons | None = None,
) -> tuple[DualTowers, list[Epoch]]:
    """Return towers with the best epoch's weights, and all epochs; the test slice is not looked at."""
    pieces = ground.pieces
    towers = untrained(ground.vocabulary, ground.settings, pieces["train"], config.train)
    course = Course(planned_epochs(ground, config, processes), ground.half_lives.popularity_h)
    slices_of_fit = pieces["train"], pieces["validation"]
    epochs = fit(towers, *slices_of_fit, config.train, course, on_epoch, checkpoint, processes, lessons)
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


def run_hash(
    log: BehaviourLog, config: TrainingConfig, processes: Processes, teacher: str | None = None
) -> str:
    """Return a short hash of all that the result depends on; the same training resumes by it.

    teacher: the version of the ranker that teaches.
    """
    settings = asdict(artifact_settings(log, config)), to_plain(config.train)
    parts = [log.fingerprint, len(log), *settings, processes.count, *([teacher] if teacher else [])]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


def checkpoint_of(
    folder: Path,
    log: BehaviourLog,
    config: TrainingConfig,
    processes: Processes,
    teacher: str | None = None,
) -> Path:
    """Return the file in which a training keeps where it stands; others of it have longer names."""
    return folder / f".training-{run_hash(log, config, processes, teacher)}"


def _vocabulary(log: BehaviourLog, slices: Slices, config: TrainingConfig) -> Vocabulary:
    settings: TrainSettings = config.train
    vocabulary = vocabulary_of_log(log, settings.min_item_count, settings.max_items, slices.train)
    if len(vocabulary.item_ids) < 2:
        raise DataError(
            f"{log.path}: {len(vocabulary.item_ids)} items have {settings.min_item_count} or more of the "
            f"{int(slices.train.sum())} training rows; two are needed: give a longer log"
        )
    return vocabulary
