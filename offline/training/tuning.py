"""A search of settings by held-out rows: what is tried is trained, and what ranks best is kept."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from models.errors import SettingsError
from models.log.behaviour_log import BehaviourLog
from offline.training.alone import alone
from offline.training.loop import stages_of
from offline.training.parallel import Processes
from offline.training.progress import Epoch
from offline.training.search_space import optuna_module, space_of
from offline.training.selection import Ground, checkpoint_of, fit_on, planned_epochs, prepare, run_hash
from offline.training.settings import TrainingConfig, config_of
from offline.training.study import DivergedError, Study, Trial

#: The settings that what a fit starts from depends on, of those that are tried.
PREPARED = ("short_events", "half_life_h", "popularity_half_life_h", "behaviour_weights")


@dataclass(frozen=True, slots=True)
class Tuned:
    """A finished search: every trial, the settings that ranked best with those given, and their TOML file."""

    trials: list[Trial]
    best: Trial | None
    settings: dict[str, Any]
    file: Path


def tune(
    log: BehaviourLog,
    given: Mapping[str, Any],
    minutes: float,
    folder: Path,
    processes: Processes,
    on_trial: Callable[[Trial], None] = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
) -> Tuned:
    """Try settings beside those given, for so many minutes, and return the best by the validation slice.

    The first trial has the defaults, so nothing worse comes out. What was done is kept in `folder`: called
    again it goes on, and `train` takes up the best trial where it ended. SettingsError with several
    processes, or where nothing is left to try; TwintideError without Optuna, or where another process
    does the same now.
    """
    check_can_tune(minutes, processes)
    config = config_of(given)
    ground = prepare(log, config)
    space = space_of(log, ground, config, given)
    name = run_hash(log, config, processes)
    file = folder / f".tuning-{name}"
    with (
        alone(file),
        tqdm(total=round(minutes * 60), unit="s", desc="tuning", disable=None) as bar,
    ):
        study = Study(file, space, minutes, config.train.seed, clock)
        fits = _Fits(log, given, ground, folder, processes, lambda: _show(bar, study))
        fits.keep_best(study)

        def after(trial: Trial) -> None:
            fits.keep_best(study)
            on_trial(trial)

        study.run(fits, after)
        fits.keep_best(study, stopped_too=False)
    best = study.best
    settings = {**given, **(best.settings if best else {})}
    return Tuned(study.trials, best, settings, _written(folder / f"tuned-{name}.toml", settings))


def check_can_tune(minutes: float, processes: Processes) -> None:
    """Raise SettingsError or TwintideError where no search can be made here."""
    if not 0 < minutes < math.inf:
        raise SettingsError(f"--tune is {minutes:g}; it must be minutes, above 0")
    if processes.count > 1:
        raise SettingsError("--tune searches in one process: start it without torchrun")
    optuna_module()


class _Fits:
    """The fits of a search, which share what does not change between them."""

    def __init__(
        self,
        log: BehaviourLog,
        given: Mapping[str, Any],
        ground: Ground,
        folder: Path,
        processes: Processes,
        on_epoch: Callable[[], object],
    ) -> None:
        self._log, self._given, self._folder, self._processes = log, given, folder, processes
        self._ground, self._ground_is_of = ground, _prepared(config_of(given))
        self._on_epoch = on_epoch

    def __call__(self, settings: Mapping[str, Any], report: Callable[[float, float], None]) -> None:
        """Fit with these settings, and report each epoch."""
        config = self._config(settings)
        ground = self._ground_of(config)
        stages = stages_of(planned_epochs(ground, config, self._processes), config.train)
        total = sum(stage.last - stage.first + 1 for stage in stages)
        done = 0

        def watch(epoch: Epoch) -> None:
            nonlocal done
            done += 1
            if not math.isfinite(epoch.loss):
                raise DivergedError(f"the loss of epoch {epoch.number} is {epoch.loss}")
            report(done / total, epoch.validation.ndcg)
            self._on_epoch()

        fit_on(ground, config, watch, self._checkpoint(config), self._processes)

    def keep_best(self, study: Study, stopped_too: bool = True) -> None:
        """Remove where the trials stood that will not go on: all but the best one, and those stopped."""
        best = study.best
        for trial in study.trials:
            if (trial.end == "stopped" and stopped_too) or (best and trial.number == best.number):
                continue
            checkpoint = self._checkpoint(self._config(trial.settings))
            for path in self._folder.glob(f"{checkpoint.name}*"):
                path.unlink()

    def _config(self, settings: Mapping[str, Any]) -> TrainingConfig:
        return config_of({**self._given, **settings})

    def _checkpoint(self, config: TrainingConfig) -> Path:
        return checkpoint_of(self._folder, self._log, config, self._processes)

    def _ground_of(self, config: TrainingConfig) -> Ground:
        """Return what a fit starts from, made anew only where it is another one than the last."""
        wanted = _prepared(config)
        if wanted != self._ground_is_of:
            self._ground, self._ground_is_of = prepare(self._log, config), wanted
        return self._ground


def _prepared(config: TrainingConfig) -> tuple[Any, ...]:
    parts = config.features, config.train
    return tuple(getattr(part, name) for part in parts for name in PREPARED if hasattr(part, name))


def _show(bar: "tqdm[Any]", study: Study) -> None:
    total = bar.total or 0
    bar.update(min(round(total - study.seconds_left), total) - bar.n)


def _written(file: Path, settings: Mapping[str, Any]) -> Path:
    import tomli_w

    file.write_text(tomli_w.dumps(settings), encoding="utf-8")
    return file
