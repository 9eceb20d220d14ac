"""Log -> artifact, whichever the kind: choose a pass by held-out rows, learn from all rows, save, publish."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from models.arrays import Flags
from models.artifact.artifact import Artifact, load, publish, save_model
from models.artifact.settings import ArtifactSettings
from models.artifact.stores import open_store
from models.encoder import Model
from models.ids.vocabulary import Vocabulary
from models.location import Location
from models.log.behaviour_log import BehaviourLog
from models.windows.window import WindowSettings
from offline.encoders.classification import Classification, classification_of
from offline.ranking.metrics import Ranking, summarise
from offline.ranking.protocols import Cases, cases_by_time, cases_leave_one_out
from offline.ranking.scorers import ranks_by
from offline.training.data import Slices, slice_log
from offline.training.learned_until import until_of
from offline.training.settings import TrainSettings
from offline.training.stopping import best_pass
from offline.training.store_kind import check_kind

#: Users that a validation and a test rank at most, evenly spread over all.
MAX_CASES = 5_000


class Learner(Protocol):
    """A model that learns from a log, pass by pass."""

    @property
    def vocabulary(self) -> Vocabulary:
        """The items that it knows."""

    def epoch(self) -> float:
        """Learn from every row once; return the loss."""

    def model(self) -> Model:
        """Return the model as it is now; it does not change with what is learned after."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a kind of model learns.

    start: (rows (R,) of the log that may be learned) -> what learns them; slicing: how rows are held out;
    epochs: passes at most, and passes without a better validation NDCG after which it ends; training: what
    the artifact says of it.
    """

    start: Callable[[Flags], Learner]
    settings: ArtifactSettings
    slicing: TrainSettings
    epochs: int
    patience: int
    final_fit: bool
    training: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class EncoderEpoch:
    """A finished pass: its loss, and how the model ranks on the validation slice."""

    number: int
    loss: float
    validation: Ranking


@dataclass(frozen=True, slots=True)
class TrainedEncoder:
    """What was published; the figures are of the version `held_out`, which has not learned these rows.

    answers: to yes or no, on the test slice.
    """

    artifact: Artifact
    held_out: str
    best: EncoderEpoch
    test: Ranking
    answers: Classification


def train_encoder(
    log: BehaviourLog, recipe: Recipe, store: Location, on_epoch: Callable[[EncoderEpoch], None]
) -> TrainedEncoder:
    """Choose a pass, test it once, learn from all rows, and publish in `store`.

    DataError where the log is too small; SettingsError where the store has a ranker active.
    """
    check_kind(store, is_ranker=False)
    open_store(store).prepare()
    slices = slice_log(log, recipe.slicing)
    best, model, vocabulary, validated = _choose(log, slices, recipe, on_epoch)
    asked = _cases(log, slices.cutoff_ms, slices.test, vocabulary, recipe.settings.window)
    test, answers = ranking_of(model, asked), classification_of(model, asked, validated.threshold)
    metrics = {
        "validation": {**asdict(best.validation), **asdict(validated)},
        "test": {**asdict(test), **asdict(answers)},
    }
    training = {
        **recipe.training,
        "best_epoch": best.number,
        "cutoff_ms": slices.cutoff_ms,
        **until_of(log.select(slices.train)),
        "data_fingerprint": log.fingerprint,
        "data_rows": len(log),
    }
    saved = save_model(store, model, vocabulary, recipe.settings, metrics, training)
    held_out = saved.version
    if recipe.final_fit:
        learner = recipe.start(np.ones(len(log), np.bool_))
        for _ in range(best.number):
            learner.epoch()
        training = {**training, **until_of(log), "held_out_version": held_out}
        saved = save_model(store, learner.model(), learner.vocabulary, recipe.settings, metrics, training)
    saved.check_golden()
    publish(store, saved.version)
    return TrainedEncoder(load(store), held_out, best, test, answers)


def _choose(
    log: BehaviourLog, slices: Slices, recipe: Recipe, on_epoch: Callable[[EncoderEpoch], None]
) -> tuple[EncoderEpoch, Model, Vocabulary, Classification]:
    """Learn the training slice while that makes the validation NDCG better."""
    learner = recipe.start(slices.train)
    before_test = log.select(~slices.test)
    validation_ms = None if slices.cutoff_ms is None else int(log.time_ms[slices.validation].min())
    held_out = slices.validation[~slices.test]
    cases = _cases(before_test, validation_ms, held_out, learner.vocabulary, recipe.settings.window)

    def learn(number: int) -> tuple[EncoderEpoch, Model]:
        loss, now = learner.epoch(), learner.model()
        epoch = EncoderEpoch(number, loss, ranking_of(now, cases))
        on_epoch(epoch)
        return epoch, now

    best, model = best_pass(recipe.epochs, recipe.patience, learn, lambda done: done[0].validation.ndcg)
    return best, model, learner.vocabulary, classification_of(model, cases)


def _cases(
    log: BehaviourLog,
    cutoff_ms: int | None,
    held_out: Flags,
    vocabulary: Vocabulary,
    window: WindowSettings,
) -> Cases:
    """Return what is asked, as `offline.evaluate` asks it: of MAX_CASES users where there are more.

    held_out (R,): the newest rows of the log, or without a cutoff some users' last, which were not learned.
    """
    if cutoff_ms is None:
        cases = cases_leave_one_out(log, vocabulary, window, held_out)
    else:
        cases = cases_by_time(log, vocabulary, window, cutoff_ms)
    step = -(-len(cases.target) // MAX_CASES)
    return cases.take(np.arange(0, len(cases.target), step)) if step > 1 else cases


def ranking_of(model: Model, cases: Cases) -> Ranking:
    """Return how a model ranks the targets of these cases among all items."""
    users = model.on_cpu().encode(cases.histories, cases.user_ids).user
    items = model.item_vectors().T
    return summarise(ranks_by(lambda some: users[some] @ items, cases, exclude_seen=False))
