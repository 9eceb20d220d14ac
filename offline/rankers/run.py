"""Log -> a ranker's artifact: choose by held-out rows, learn from all rows, save, publish."""

import copy
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch

from models.arrays import Flags
from models.artifact.files import CONFIG, read_json
from models.artifact.stores import find, is_there, open_store, store_of
from models.errors import DataError, SettingsError
from models.ids.log_vocabulary import vocabulary_of_log
from models.ids.vocabulary import Vocabulary
from models.ids.vocabulary_file import UNKNOWN
from models.location import Location
from models.log.behaviour_log import BehaviourLog
from models.model_files import RANKER
from models.rankers.artifact import save_ranker
from models.rankers.base import RankerModule
from models.rankers.kinds import make_ranker
from models.rankers.load import LoadedRanker
from models.rankers.settings import RankerSettings
from models.sessions import default_gap_ms
from offline.rankers.learner import Learner
from offline.rankers.measures import Quality, quality_of
from offline.rankers.samples import Samples, check_samples, material_of
from offline.rankers.scoring import score
from offline.rankers.settings import UNKNOWN_SHARES, RankerConfig, RankerTrainSettings
from offline.training.data import Slices, slice_log
from offline.training.parallel import one_process


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
    slices: Slices
    seconds: float


@dataclass(frozen=True, slots=True)
class TrainedRanker:
    """A finished run: what was published, under which number, and what it was chosen by."""

    artifact: LoadedRanker
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
    check_store(store)
    open_store(store).prepare()
    settings = with_gap(config, log)
    chosen = choose(log, settings, config.train, on_epoch)
    train = chosen.train
    ranker, vocabulary = chosen.ranker, chosen.vocabulary
    if train.final_fit:
        ranker, vocabulary = fit(log, np.ones(len(log), np.bool_), settings, train, chosen.best.number)
    training = {
        **asdict(train),
        "cutoff_ms": chosen.slices.cutoff_ms,
        "data_fingerprint": log.fingerprint,
        "best_epoch": chosen.best.number,
    }
    metrics = {"validation": asdict(chosen.best.validation), "test": asdict(chosen.test)}
    saved = save_ranker(store, ranker, vocabulary, metrics, training)
    return TrainedRanker(saved, open_store(store).publish(saved.version), chosen)


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
    best, weights = None, None
    for number in range(1, train.epochs + 1):
        loss = learner.epoch()
        found = quality_of(score(learner.ranker, samples["validation"], learner.drawer, train))
        if np.isnan(found.auc):
            raise DataError(
                f"{log.path}: no row of the validation slice has an item to be ranked against "
                f"({len(vocabulary.item_ids)} are known): give a longer log"
            )
        epoch = RankerEpoch(number, loss, found)
        on_epoch(epoch)
        if best is None or found.auc > best.validation.auc:
            best, weights = epoch, copy.deepcopy(learner.ranker.state_dict())
        elif number - best.number >= train.patience:
            break
    assert best is not None and weights is not None  # there is at least one pass
    learner.ranker.load_state_dict(weights)
    test = quality_of(score(learner.ranker, samples["test"], learner.drawer, train))
    return Chosen(learner.ranker, vocabulary, train, best, test, slices, time.monotonic() - started)


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


def check_store(store: Location) -> None:
    """Raise SettingsError where the active artifact of a store is no ranker: who follows it would fail."""
    if not is_there(store) or store_of(store) is None:
        return
    kind = read_json(find(store).directory / CONFIG).get("encoder")
    if kind != RANKER:
        raise SettingsError(
            f"--save-dir {store} has a model active that makes vectors ({kind or 'dual-towers'}), which "
            "workers follow: give a ranker a directory of its own"
        )
