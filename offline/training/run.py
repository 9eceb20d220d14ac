"""CSV -> artifact, as one function: slice, learn the vocabulary, fit, test once, save, publish."""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass

import torch

from models.artifact.artifact import Artifact, ArtifactSettings, load, publish, save
from models.artifact.stores import open_store
from models.errors import DataError
from models.ids.log_vocabulary import vocabulary_of_log
from models.ids.vocabulary import Vocabulary
from models.location import Location
from models.log.behaviour_log import BehaviourLog
from models.sessions import default_gap_ms
from models.towers.dual_towers import DualTowers
from models.towers.histories import event_features
from models.towers.log_histories import EVERYTHING, histories_of_log
from offline.ranking.metrics import Ranking, summarise
from offline.training.ablation import leave_out
from offline.training.data import Slices, Stretches, cut_stretches, end_at_pauses, return_share, slice_log
from offline.training.loop import fit, target_ranks
from offline.training.parallel import Processes, one_process
from offline.training.progress import Epoch
from offline.training.settings import TrainingConfig, TrainSettings, to_plain


@dataclass(frozen=True, slots=True)
class Trained:
    """A finished run: the published artifact, and what each epoch and the test gave."""

    artifact: Artifact
    epochs: list[Epoch]
    test: Ranking


def train(
    log: BehaviourLog,
    config: TrainingConfig,
    store: Location,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
    processes: Processes | None = None,
) -> Trained:
    """Train on a log, test the best epoch once, write the artifact into `store` and publish it there.

    The same log, settings, machine and number of processes give the same artifact, also when training was
    interrupted and is started again: it resumes after the last finished epoch. DataError where the log is too
    small. `processes` is what `joined` gives, where there may be several; only the first one writes.
    """
    processes = processes or one_process(config.train.device)
    settings = _settings(log, config)
    slices = slice_log(log, config.train)
    vocabulary = _vocabulary(log, slices, config)
    pieces = stretches_of(log, slices, vocabulary, settings)
    torch.manual_seed(config.train.seed)
    towers = DualTowers(vocabulary, settings.features, settings.model)
    towers.items.expect_returns(return_share(pieces["train"], len(vocabulary.item_ids)))
    leave_out(towers, config.train.without)
    checkpoint = (
        open_store(store).prepare() / f".training-{_run_hash(log, settings, config.train, processes.count)}"
    )
    epochs = fit(towers, pieces["train"], pieces["validation"], config.train, on_epoch, checkpoint, processes)
    best = max(epochs, key=lambda epoch: epoch.validation.ndcg)
    test = summarise(target_ranks(towers, pieces["test"], processes=processes))
    metrics = {
        "best_epoch": best.number,
        "epochs": [dataclasses.asdict(epoch) for epoch in epochs],
        "validation": dataclasses.asdict(best.validation),
        "test": dataclasses.asdict(test),
    }
    training = {
        **to_plain(config.train),
        "cutoff_ms": slices.cutoff_ms,
        "data_fingerprint": log.fingerprint,
        "data_rows": len(log),
    }
    if processes.is_first:
        publish(store, save(store, towers.cpu(), vocabulary, settings, metrics, training).version)
        checkpoint.unlink(missing_ok=True)
    processes.wait()
    return Trained(load(store), epochs, test)


def _run_hash(
    log: BehaviourLog, settings: ArtifactSettings, train_settings: TrainSettings, processes: int
) -> str:
    """Return a short hash of all that the result depends on; the same training resumes by it."""
    parts = [log.fingerprint, len(log), dataclasses.asdict(settings), to_plain(train_settings), processes]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


def _settings(log: BehaviourLog, config: TrainingConfig) -> ArtifactSettings:
    features = config.features
    if not config.is_gap_given:
        features = dataclasses.replace(features, gap_ms=default_gap_ms(log.precision_ms))
    return ArtifactSettings(config.window, features, config.model)


def _vocabulary(log: BehaviourLog, slices: Slices, config: TrainingConfig) -> Vocabulary:
    settings = config.train
    vocabulary = vocabulary_of_log(log.select(slices.train), settings.min_item_count, settings.max_items)
    if len(vocabulary.item_ids) < 2:
        raise DataError(
            f"{log.path}: {len(vocabulary.item_ids)} items have {settings.min_item_count} or more of the "
            f"{int(slices.train.sum())} training rows; two are needed: give a longer log"
        )
    return vocabulary


def stretches_of(
    log: BehaviourLog, slices: Slices, vocabulary: Vocabulary, settings: ArtifactSettings
) -> dict[str, Stretches]:
    """Return what each slice asks: its own rows as targets, with all rows before them to read.

    A user's rows stand in the order train, validation, test, so none of a later slice is read.
    """
    order = log.by_user()
    _, histories = histories_of_log(log, vocabulary, EVERYTHING)
    histories = end_at_pauses(histories, settings.window.horizon_ms)
    derived, long_events = event_features(histories, settings.features), settings.features.long_events
    pieces = {
        name: cut_stretches(histories, derived, getattr(slices, name)[order], long_events)
        for name in ("train", "validation", "test")
    }
    for name, found in pieces.items():
        if not has_targets(found):
            raise DataError(
                f"{log.path}: no row of the {name} slice has a known item and an earlier row of its user "
                f"({len(log)} rows in all): give a longer log"
            )
    return pieces


def has_targets(stretches: Stretches) -> bool:
    """Return whether there is anything to predict."""
    return len(stretches) > 0
