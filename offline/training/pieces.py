"""What there is to learn of a log: its users' histories, and each event's weight as a target."""

from dataclasses import dataclass

import numpy as np

from models.arrays import Flags, Floats
from models.artifact.settings import ArtifactSettings
from models.blocks import blocks_of, groups_of
from models.errors import DataError
from models.ids.vocabulary import Vocabulary
from models.ids.vocabulary_file import FIRST_KNOWN
from models.log.behaviour_log import BehaviourLog
from models.towers.histories import EventFeatures, features_of_log
from models.windows.histories import Histories
from models.windows.log_histories import EVERYTHING, histories_of_log
from offline.training.data import Slices, Stretches, cut_stretches, end_at_pauses
from offline.training.half_lives import HalfLives, half_lives_of
from offline.training.popularity import age_weights, present_ms
from offline.training.settings import TrainSettings


@dataclass(frozen=True, slots=True)
class Material:
    """A log's E events by user as a model's vocabulary has them, and where its histories can be cut."""

    histories: Histories
    derived: EventFeatures
    long_events: int

    def stretches(self, weight: Floats | Flags) -> Stretches:
        """Return the pieces in which events (E,) are targets that weigh more than 0."""
        kind = np.bool_ if weight.dtype == np.bool_ else np.float32
        return cut_stretches(self.histories, self.derived, weight.astype(kind, copy=False), self.long_events)

    def weight(self, learned: Flags, settings: TrainSettings, taste_h: float) -> Floats:
        """Return what events (E,) weigh as targets, 0 where they are not learned: by age and behaviour."""
        by_behaviour = np.array((0, *settings.behaviour_weights), np.float32)
        weight = np.zeros(len(learned), np.float32)
        now_ms = present_ms(self.histories.time_ms, learned)
        for some in blocks_of(len(learned)):
            chosen = np.flatnonzero(learned[some]) + some.start
            by_age = age_weights(self.histories.time_ms[chosen], now_ms, taste_h)
            weight[chosen] = by_age * by_behaviour[self.histories.behaviour[chosen]]
        return weight


def material_of(log: BehaviourLog, vocabulary: Vocabulary, settings: ArtifactSettings) -> Material:
    """Return the log's events in the order of `log.by_user()`, histories ended where a window forgets."""
    _, histories = histories_of_log(log, vocabulary, EVERYTHING, is_small=True)
    histories = end_at_pauses(histories, settings.window.horizon_ms)
    return Material(histories, features_of_log(histories, settings.features), settings.features.long_events)


def stretches_of(
    log: BehaviourLog,
    slices: Slices,
    vocabulary: Vocabulary,
    settings: ArtifactSettings,
    train_settings: TrainSettings,
) -> tuple[dict[str, Stretches], HalfLives]:
    """Return what each slice asks, its own rows as targets, with all rows before them to read; half-lives.

    A user's rows stand in the order train, validation, test, so none of a later slice is read. The half-lives
    are found by the validation slice, and weigh the training slice.
    """
    train, validation, test = _by_user(log, slices)
    material = material_of(log, vocabulary, settings)
    pieces = {
        "train": material.stretches(train),
        "validation": material.stretches(validation),
        "test": material.stretches(test),
    }
    for name, found in pieces.items():
        if not has_targets(found):
            raise DataError(
                f"{log.path}: no row of the {name} slice has a known item and an earlier row of its user "
                f"({len(log)} rows in all): give a longer log"
            )
    half_lives = half_lives_of(
        train_settings, material.histories, train, validation, len(vocabulary.item_ids)
    )
    weight = material.weight(train, train_settings, half_lives.taste_h)
    return {**pieces, "train": material.stretches(weight)}, half_lives


def _by_user(log: BehaviourLog, slices: Slices) -> tuple[Flags, Flags, Flags]:
    """Return the slices in the order of `log.by_user()`."""
    order = log.by_user()
    return slices.train[order], slices.validation[order], slices.test[order]


def has_targets(stretches: Stretches) -> bool:
    """Return whether there is anything to predict: a known item that its user comes to from another event."""
    histories = stretches.histories
    for users in groups_of(histories.starts):
        starts = histories.starts[users.start : users.stop + 1]
        some = slice(starts[0], starts[-1])
        asked = (stretches.weight[some] > 0) & (histories.item[some] >= FIRST_KNOWN)
        asked[starts[:-1][np.diff(starts) > 0] - starts[0]] = False
        if asked.any():
            return True
    return False
