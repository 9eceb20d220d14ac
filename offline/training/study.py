"""Trials of settings, kept in a file: the defaults first, poor ones pruned, until the time is up."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from models.errors import ArtifactError
from offline.training.search_space import Space, defaults_of, optuna_module, settings_of

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

#: Fits with these settings; after each epoch it says what share of all its epochs is done, and how well the
#: epoch ranked the validation slice (NDCG).
Measure = Callable[[Mapping[str, Any], Callable[[float, float], None]], object]

#: Trials before any is pruned; and how many proposals that were tried before, in a row, end the search.
UNPRUNED_TRIALS, MAX_REPEATS = 4, 50
#: Trials are compared where they have done the same number of so many parts of their epochs.
PARTS = 10


class DivergedError(Exception):
    """A fit whose loss is no number any more."""


class _PrunedError(Exception):
    """A trial that is behind most others where they had done as much."""


class _TimeUpError(Exception):
    """The time of the search ended within a trial."""


@dataclass(frozen=True, slots=True)
class Trial:
    """Settings that were tried, the best validation NDCG that they reached, and how it ended.

    "stopped": time was up within it, or it was killed; it goes on with what it had when the study does.
    """

    number: int
    settings: dict[str, Any]
    ndcg: float | None
    seconds: float
    end: Literal["finished", "pruned", "stopped", "failed"]


class Study:
    """All trials of one search; opened again on the same file it goes on where it was.

    minutes are of all trials together, those before a kill too. Every trial has at least one epoch.
    """

    def __init__(
        self,
        file: Path,
        space: Space,
        minutes: float,
        seed: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._optuna, self._space, self._clock = optuna_module(), space, clock
        self._limit_s = minutes * 60
        self._study = _opened(file, space, seed)
        self._repeats = 0
        if not self._all():
            self._study.enqueue_trial(defaults_of(space))
        elif self.seconds_left > 0:
            self._take_up_stopped()

    @property
    def trials(self) -> list[Trial]:
        """All trials, without those that go on under a later number."""
        found = [_shown(each) for each in self._all() if "repeats" not in each.user_attrs]
        return [each for each in found if each.end != "failed" or not self._goes_on(each)]

    @property
    def best(self) -> Trial | None:
        """The trial that ranked best; None where every one failed."""
        usable = [
            each for each in self.trials if each.end in ("finished", "stopped") and each.ndcg is not None
        ]
        return max(usable, key=lambda each: each.ndcg or 0.0, default=None)

    @property
    def seconds_left(self) -> float:
        """How long the search may still take (s)."""
        spent_s: float = sum(each.user_attrs.get("seconds", 0.0) for each in self._all())
        return self._limit_s - spent_s

    def run(self, measure: Measure, on_trial: Callable[[Trial], None] = lambda _: None) -> None:
        """Try settings until the time is up, or nothing new is proposed."""
        while (self.seconds_left > 0 or not self.trials) and self._repeats < MAX_REPEATS:
            trial = self._study.ask(dict(self._space))
            if self._was_tried(trial):
                trial.set_user_attr("repeats", True)
                self._study.tell(trial, state=self._optuna.trial.TrialState.FAIL)
                self._repeats += 1
                continue
            self._repeats = 0
            self._try(trial, measure)
            on_trial(next(each for each in self.trials if each.number == trial.number))

    def _try(self, trial: optuna.Trial, measure: Measure) -> None:
        state = self._optuna.trial.TrialState
        watch = _Watch(self, trial, is_default=trial.params == defaults_of(self._space), clock=self._clock)
        try:
            measure(settings_of(trial.params), watch)
        except _TimeUpError:
            pass  # it stays open, as if it had been killed
        except _PrunedError:
            self._study.tell(trial, state=state.PRUNED)
        except (DivergedError, torch.OutOfMemoryError) as error:
            trial.set_user_attr("failure", str(error)[:200])
            self._study.tell(trial, state=state.FAIL)
        else:
            self._study.tell(trial, watch.best)

    def _take_up_stopped(self) -> None:
        """Put the trials that were stopped or killed in front of the new ones."""
        state = self._optuna.trial.TrialState
        for each in self._study.get_trials(states=(state.RUNNING,)):
            before_s = each.user_attrs.get("before_s", 0.0) + each.user_attrs.get("seconds", 0.0)
            attributes = {"goes_on": each.number, "before_s": before_s}
            self._study.enqueue_trial(each.params, user_attrs=attributes)
            self._study.tell(each.number, state=state.FAIL)

    def _goes_on(self, trial: Trial) -> bool:
        every = self._study.get_trials(deepcopy=False)  # those that wait too
        return any(each.user_attrs.get("goes_on") == trial.number for each in every)

    def _was_tried(self, trial: optuna.Trial) -> bool:
        ended = [each for each in self.trials if each.number != trial.number]
        return settings_of(trial.params) in [each.settings for each in ended]

    def _all(self) -> list[FrozenTrial]:
        """Return the trials that have begun."""
        waiting = self._optuna.trial.TrialState.WAITING
        return [each for each in self._study.get_trials(deepcopy=False) if each.state != waiting]


class _Watch:
    """What a trial's fit calls after each epoch: it notes how far it came, and ends it where it should."""

    def __init__(
        self, study: Study, trial: optuna.Trial, is_default: bool, clock: Callable[[], float]
    ) -> None:
        self._study, self._trial, self._is_default, self._clock = study, trial, is_default, clock
        self._began, self._part = clock(), 0
        self.best = -1.0

    def __call__(self, share: float, ndcg: float) -> None:
        self.best = max(self.best, ndcg)
        self._trial.set_user_attr("ndcg", self.best)
        self._trial.set_user_attr("seconds", self._clock() - self._began)
        part = int(PARTS * share + 1e-9)
        if part > self._part:
            self._part = part
            self._trial.report(self.best, part)
            if not self._is_default and self._trial.should_prune():
                raise _PrunedError
        if share < 1 and self._study.seconds_left <= 0:
            raise _TimeUpError


def _opened(file: Path, space: Space, seed: int) -> optuna.Study:
    module = optuna_module()
    module.logging.set_verbosity(module.logging.ERROR)
    distributions = module.distributions.distribution_to_json
    name = json.dumps({key: distributions(value) for key, value in sorted(space.items())})
    _drop_torn_line(file)
    try:
        storage = module.storages.JournalStorage(module.storages.journal.JournalFileBackend(str(file)))
        study: optuna.Study = module.create_study(
            storage=storage,
            study_name=name,
            direction="maximize",
            load_if_exists=True,
            pruner=module.pruners.MedianPruner(UNPRUNED_TRIALS, n_warmup_steps=1),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(
            f"{file}, where a search of settings stood, cannot be used ({error}): remove it"
        ) from error
    # Begun again with the same seed it would propose the same again.
    study.sampler = module.samplers.TPESampler(seed=seed + len(study.trials))
    return study


def _drop_torn_line(file: Path) -> None:
    """Cut off what a killed write left behind the last whole line: what is written next would be lost too."""
    if file.exists() and not (content := file.read_bytes()).endswith(b"\n"):
        file.write_bytes(content[: content.rfind(b"\n") + 1])


def _shown(trial: FrozenTrial) -> Trial:
    ends: dict[str, Literal["finished", "pruned", "stopped", "failed"]] = {
        "COMPLETE": "finished",
        "PRUNED": "pruned",
        "RUNNING": "stopped",
        "FAIL": "failed",
    }
    attributes = trial.user_attrs
    seconds = attributes.get("before_s", 0.0) + attributes.get("seconds", 0.0)
    settings = settings_of(trial.params)
    return Trial(trial.number, settings, attributes.get("ndcg"), seconds, ends[trial.state.name])
