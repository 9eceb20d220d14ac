"""A published model goes on: it learns what a log has that is newer, and its space stays where it is."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import msgspec
import numpy as np

from models.arrays import Flags
from models.artifact.artifact import Artifact, load, publish, save
from models.artifact.rotation import common_items, mean_cosine
from models.artifact.settings import ArtifactSettings
from models.errors import DataError
from models.ids.log_vocabulary import vocabulary_of_log
from models.ids.vocabulary import Vocabulary
from models.location import Location
from models.log.behaviour_log import BehaviourLog
from models.towers.dual_towers import DualTowers
from models.windows.log_histories import histories_of_log
from offline.ranking.metrics import Ranking, summarise
from offline.training.ablation import leave_out
from offline.training.going_on import go_on, going_on_stretches
from offline.training.growing import grown, union
from offline.training.half_lives import HalfLives
from offline.training.held_out import target_ranks
from offline.training.learned_until import learned_until, newer_rows, until_of
from offline.training.parallel import Processes, one_process
from offline.training.pieces import has_targets, material_of
from offline.training.settings import TrainSettings
from offline.training.store_kind import check_kind
from offline.training.weighing import ItemWeights

#: The most users whose vectors before and after are compared.
COMPARED_USERS = 1_000


@dataclass(frozen=True, slots=True)
class Moved:
    """The mean cosine between vectors before and after: of known items, and of users with one history."""

    items: float
    users: float


@dataclass(frozen=True, slots=True)
class Continued:
    """What went on: how many rows and items are new, how the model before ranked these rows, what moved.

    before is None where none of the new rows has an item that the model before knows, behind another row.
    """

    artifact: Artifact
    rows: int
    new_items: int
    before: Ranking | None
    moved: Moved


def continue_training(
    artifact: Artifact,
    log: BehaviourLog,
    store: Location,
    flags: Mapping[str, Any] | None = None,
    processes: Processes | None = None,
) -> Continued:
    """Go on from an artifact with the rows of a log that are newer, and publish what comes of it in `store`.

    The log should hold older rows too: they are what users had before, and some are learned again, so that
    nothing is forgotten. flags overrule the settings that the artifact was trained with. DataError where no
    row is newer, ArtifactError where the artifact does not say until when it has learned.
    """
    settings = settings_of(artifact, flags or {})
    processes = processes or one_process(settings.device)
    check_kind(store, is_ranker=False)
    is_new = rows_to_learn(log, artifact)
    before = _ranking_of_new(artifact, log, is_new, processes)
    learned = go_on_from(learned_of(artifact), log, is_new, settings, processes)
    metrics = {**artifact.metrics, "before_going_on": asdict(before) if before else None}
    if processes.is_first:
        saved = learned.save(store, metrics)
        saved.check_golden()
        publish(store, saved.version)
    processes.wait()
    made = load(store)
    new_items = len(set(learned.vocabulary.item_ids) - set(artifact.item_ids))
    return Continued(made, int(is_new.sum()), new_items, before, moved(artifact, made, log))


@dataclass(frozen=True, slots=True)
class Learned:
    """What goes on, and what has gone on but is in no store yet: towers, what they know, and by what."""

    towers: DualTowers
    vocabulary: Vocabulary
    settings: ArtifactSettings
    training: Mapping[str, Any]

    def save(self, store: Location, metrics: Mapping[str, Any]) -> Artifact:
        """Write it into a store, where nobody is told of it, and return the artifact."""
        return save(store, self.towers.cpu(), self.vocabulary, self.settings, metrics, self.training)


def learned_of(artifact: Artifact) -> Learned:
    """Return what goes on from an artifact; what has gone on says that it did so from there."""
    training = {**artifact.training, "continued_from": artifact.version}
    return Learned(artifact.towers, artifact.vocabulary, artifact.settings, training)


def rows_to_learn(log: BehaviourLog, artifact: Artifact) -> Flags:
    """Return which rows (R,) of a log an artifact has not learned: the newer ones. DataError without one."""
    is_new = newer_rows(log, artifact.training, str(artifact.path))
    if not is_new.any():
        until_ms = learned_until(artifact.training, str(artifact.path))
        raise DataError(
            f"{log.path}: no row is newer than what {artifact.version} has learned ({until_ms} epoch ms): "
            "give a log that goes on"
        )
    return is_new


def go_on_from(
    before: Learned, log: BehaviourLog, is_new: Flags, settings: TrainSettings, processes: Processes
) -> Learned:
    """Return what comes of going on with the new rows (R,) of a log; nothing is written.

    All items of the log become known, and what was known stays so, up to `max_items`.
    """
    known = vocabulary_of_log(log, settings.min_item_count)
    vocabulary = union(before.vocabulary, known, settings.max_items)
    towers = grown(before.towers, before.vocabulary, vocabulary, before.settings.features)
    leave_out(towers, settings.without)
    material, order = material_of(log, vocabulary, before.settings), log.by_user()
    half_lives = HalfLives.from_plain(before.training["half_lives_h"])
    weight = material.weight(np.ones(len(log), np.bool_), settings, half_lives.taste_h)
    stretches = going_on_stretches(material, weight, is_new[order])
    if has_targets(stretches):
        learns, weights = before.training["learns"], ItemWeights(**before.training.get("item_weights", {}))
        towers = go_on(towers, stretches, settings, learns, half_lives.popularity_h, weights, processes)
    training = {
        **before.training,
        **until_of(log),
        "data_fingerprint": log.fingerprint,
        "data_rows": len(log),
    }
    return Learned(towers, vocabulary, before.settings, training)


def settings_of(artifact: Artifact, flags: Mapping[str, Any]) -> TrainSettings:
    """Return the settings that an artifact was trained with, overruled by flags that are not None."""
    known = {field.name for field in fields(TrainSettings)}
    stored = {name: value for name, value in artifact.training.items() if name in known}
    given = {name: value for name, value in flags.items() if value is not None}
    return msgspec.convert({**stored, **given}, TrainSettings)


def moved(before: Artifact, after: Artifact, log: BehaviourLog) -> Moved:
    """Return how far vectors have moved: of items that both know, and of users by rows that both learned."""
    window, until_ms = before.settings.window, learned_until(before.training, str(before.path))
    ours, theirs = (histories_of_log(log, each.vocabulary, window, until_ms)[1] for each in (after, before))
    some = np.arange(0, len(ours), max(len(ours) // COMPARED_USERS, 1))
    items = mean_cosine(*common_items(after, before))
    if not len(some):
        return Moved(items, 1.0)
    users = mean_cosine(after.encode(ours.take(some)).user, before.encode(theirs.take(some)).user)
    return Moved(items, users)


def _ranking_of_new(
    artifact: Artifact, log: BehaviourLog, is_new: Flags, processes: Processes
) -> Ranking | None:
    """Return how the model before ranks the new rows, from fresh histories."""
    stretches = material_of(log, artifact.vocabulary, artifact.settings).stretches(is_new[log.by_user()])
    if not has_targets(stretches):
        return None
    towers: DualTowers = artifact.towers.to(processes.device)
    return summarise(target_ranks(towers, stretches, processes=processes))
