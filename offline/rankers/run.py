"""Log -> a ranker's artifact: choose by held-out rows, learn from all rows, save, publish."""

import copy
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from torch import Tensor

from models.arrays import Flags
from models.artifact.stores import open_store
from models.errors import DataError, SettingsError
from models.ids.log_vocabulary import vocabulary_of_log
from models.ids.vocabulary import Vocabulary
from models.ids.vocabulary_file import UNKNOWN
from models.location import Location
from models.log.behaviour_log import BehaviourLog
from models.rankers.artifact import save_ranker
from models.rankers.base import RankerModule
from models.rankers.kinds import make_ranker
from models.rankers.load import LoadedRanker
from models.rankers.settings import RankerSettings
from models.sessions import default_gap_ms
from offline.rankers.evaluation import Variety, positives_of, variety_of
from offline.rankers.learner import Learner
from offline.rankers.measures import Quality, quality_of
from offline.rankers.samples import Samples, check_samples, material_of
from offline.rankers.scoring import score, trained
from offline.rankers.settings import UNKNOWN_SHARES, RankerConfig, RankerTrainSettings
from offline.training.data import Slices, slice_log
from offline.training.learned_until import until_of
from offline.training.parallel import one_process
from offline.training.stopping import best_pass
from offline.training.store_kind import check_kind


@dataclass(frozen=True, slots=True)
class RankerEpoch:
    """A finished pass: the mean loss of its labels, and how good the ranker is on the validation slice."""

    number: int
    loss: float
    validation: Quality


@dataclass(frozen=True, slots=True)
class Chosen:
    """The ranker of the best pass, which has not learned what was held out, and how good it is there.

    train: the settings that it learned with, what was found from the log included.
    """

    ranker: RankerModule
    vocabulary: Vocabulary
    train: RankerTrainSettings
    best: RankerEpoch
    test: Quality
    variety: Variety
    slices: Slices
    seconds: float


@dataclass(frozen=True, slots=True)
class TrainedRanker:
    """A finished run: what was published, under which number, and what it was chosen by.

    The figures are of the version `held_out`, which has not learned the rows that they are of.
    """

    artifact: LoadedRanker
    held_out: str
    publication: int
    chosen: Chosen


def train_ranker(
    log: BehaviourLog,
    config: RankerConfig,
    store: Location,
    on_epoch: Callable[[RankerEpoch], None] = lambda _: None,
) -> TrainedRanker:
    """Train on a log, test the best pass once, learn from all rows, and publish the artifact in `store`.

    DataError where the log is too small; SettingsError where the store has another kind of model active.
    """
    check_kind(store, is_ranker=True)
    open_store(store).prepare()
    settings = with_gap(config, log)
    chosen = choose(log, settings, config.train, on_epoch)
    train = chosen.train
    training = {
        **asdict(train),
        "cutoff_ms": chosen.slices.cutoff_ms,
        "data_fingerprint": log.fingerprint,
        "best_epoch": chosen.best.number,
        **until_of(log.select(chosen.slices.train)),
    }
    metrics = {"validation": asdict(chosen.best.validation), "test": asdict(chosen.test)}
    metrics["variety"] = asdict(chosen.variety)
    saved = save_ranker(store, chosen.ranker, chosen.vocabulary, metrics, training)
    held_out = saved.version
    if train.final_fit:
        ranker, vocabulary = fit(log, np.ones(len(log), np.bool_), settings, train, chosen.best.number)
        training = {**training, **until_of(log), "held_out_version": held_out}
        saved = save_ranker(store, ranker, vocabulary, metrics, training)
    return TrainedRanker(saved, held_out, open_store(store).publish(saved.version), chosen)


def with_gap(config: RankerConfig, log: BehaviourLog) -> RankerSettings:
    """Return the ranker's settings, with the gap by the log's precision where none is given."""
    if config.is_gap_given:
        return config.ranker
    return replace(config.ranker, gap_ms=default_gap_ms(log.precision_ms))


def with_unknown_share(train: RankerTrainSettings, held_out: Samples) -> RankerTrainSettings:
    """Return the settings with the share of items to hide, by how many held-out targets are unknown."""
    if train.unknown_share is not None:
        return train
    share = float((held_out.histories.item[held_out.target] == UNKNOWN).mean())
    return replace(train, unknown_share=float(np.clip(share, *UNKNOWN_SHARES)))


def choose(
    log: BehaviourLog,
    settings: RankerSettings,
    train: RankerTrainSettings,
    on_epoch: Callable[[RankerEpoch], None] = lambda _: None,
) -> Chosen:
    """Learn from the training slice while that makes the validation AUC better, and test the best pass."""
    started = time.monotonic()
    slices = slice_log(log, train.slicing)
    vocabulary, samples = material_of_slices(log, settings, train, slices)
    train = with_unknown_share(train, samples["validation"])
    learner = Learner(_untrained(vocabulary, settings, train), samples["train"], vocabulary, train)

    def learn(number: int) -> tuple[RankerEpoch, dict[str, Tensor]]:
        loss = learner.epoch()
        found = quality_of(score(learner.ranker, samples["validation"], learner.drawer, train))
        diverged = np.isnan(found.log_loss)
        if diverged and number == 1:
            raise SettingsError(
                f"scores are no numbers any more after one pass: give a lower lr than {train.lr}"
            )
        if np.isnan(found.auc) and not diverged:
            raise DataError(
                f"{log.path}: no row of the validation slice has an item to be ranked against "
                f"({len(vocabulary.item_ids)} are known): give a longer log"
            )
        on_epoch(epoch := RankerEpoch(number, loss, found))
        return epoch, copy.deepcopy(learner.ranker.state_dict())

    best, weights = best_pass(train.epochs, train.patience, learn, lambda done: done[0].validation.auc)
    learner.ranker.load_state_dict(weights)
    seconds = time.monotonic() - started
    test = quality_of(score(learner.ranker, samples["test"], learner.drawer, train))
    counts = positives_of(samples["train"], vocabulary)
    variety = variety_of(trained(learner.ranker), samples["test"], vocabulary, counts)
    return Chosen(learner.ranker, vocabulary, train, best, test, variety, slices, seconds)


def fit(
    log: BehaviourLog, rows: Flags, settings: RankerSettings, train: RankerTrainSettings, epochs: int
) -> tuple[RankerModule, Vocabulary]:
    """Return a ranker that has learned rows (R,) in so many passes, and their vocabulary."""
    vocabulary = vocabulary_of_log(log, train.min_item_count, train.max_items, rows)
    samples = material_of(log, vocabulary, settings).samples(rows, train)
    learner = Learner(_untrained(vocabulary, settings, train), samples, vocabulary, train)
    for _ in range(epochs):
        learner.epoch()
    return learner.ranker, vocabulary


def material_of_slices(
    log: BehaviourLog, settings: RankerSettings, train: RankerTrainSettings, slices: Slices | None = None
) -> tuple[Vocabulary, dict[str, Samples]]:
    """Return the vocabulary of the training slice, and the samples of each slice by its name.

    Raises DataError where one has none.
    """
    slices = slices or slice_log(log, train.slicing)
    vocabulary = vocabulary_of_log(log, train.min_item_count, train.max_items, slices.train)
    material = material_of(log, vocabulary, settings)
    names = ("train", "validation", "test")
    samples = {name: material.samples(getattr(slices, name), train) for name in names}
    for name, found in samples.items():
        check_samples(log, name, found, train)
    return vocabulary, samples


def _untrained(vocabulary: Vocabulary, settings: RankerSettings, train: RankerTrainSettings) -> RankerModule:
    torch.manual_seed(train.seed)
    return make_ranker(vocabulary, settings).to(one_process(train.device).device)
