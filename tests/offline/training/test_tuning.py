"""A search of settings: the defaults first, better ones found, nothing lost by a kill, over in time."""

import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from models.artifact.artifact import load
from models.errors import ArtifactError, SettingsError
from models.log.behaviour_log import read_behaviour_log
from offline import train
from offline.training.parallel import Processes, one_process
from offline.training.search_space import changed_of, defaults_of, settings_of, space_of
from offline.training.selection import prepare
from offline.training.settings import TrainSettings, config_of, read_config
from offline.training.study import DivergedError, Study, Trial
from offline.training.tuning import tune

optuna = pytest.importorskip("optuna")

SPACE = {
    "lr": optuna.distributions.FloatDistribution(3e-4, 3e-2, log=True),
    "without": optuna.distributions.CategoricalDistribution(("", "transformers")),
}
EPOCHS = 5
Report = Callable[[float, float], None]


class Clock:
    """A clock that only stands still, until it is told."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class Fits:
    """Fits that rank best at a learning rate of .01, without the Transformers; an epoch takes a minute."""

    def __init__(self, clock: Clock, killed_at: int = 0) -> None:
        self.clock, self.epochs, self.killed_at = clock, 0, killed_at
        self.seen: list[dict[str, Any]] = []

    def __call__(self, settings: Mapping[str, Any], report: Report) -> None:
        self.seen.append(dict(settings))
        ndcg = 0.5 - abs(settings["lr"] - 0.01) * 10 + (0.2 if settings["without"] else 0.0)
        for epoch in range(1, EPOCHS + 1):
            self.epochs += 1
            if self.epochs == self.killed_at:
                raise KeyboardInterrupt
            self.clock.now_s += 60
            report(epoch / EPOCHS, ndcg * epoch / EPOCHS)


def searched(file: Path, minutes: float, killed_at: int = 0) -> tuple[Study, Fits]:
    """Search for so many minutes; the kill, if any, comes within that epoch."""
    clock = Clock()
    study, fits = Study(file, SPACE, minutes, clock=clock), Fits(clock, killed_at)
    if killed_at:
        with pytest.raises(KeyboardInterrupt):
            study.run(fits)
    else:
        study.run(fits)
    return study, fits


def test_the_first_trial_has_the_defaults(tmp_path: Path) -> None:
    study, fits = searched(tmp_path / "study", 20)
    assert fits.seen[0] == {"lr": TrainSettings().lr, "without": []} == study.trials[0].settings
    assert changed_of(study.trials[0].settings) == {}
    assert all(changed_of(trial.settings) for trial in study.trials[1:])


def test_better_settings_are_found_and_poor_ones_given_up(tmp_path: Path) -> None:
    study, fits = searched(tmp_path / "study", 150)
    assert study.best
    assert study.best.settings["without"] == ["transformers"]
    assert 0.006 < study.best.settings["lr"] < 0.015
    ends = [trial.end for trial in study.trials]
    assert ends[0] == "finished"
    assert ends.count("pruned") >= 5
    assert ends.count("finished") * EPOCHS < fits.epochs < len(ends) * EPOCHS


def test_where_the_defaults_are_best_they_stay(tmp_path: Path) -> None:
    clock = Clock()

    def fit(settings: Mapping[str, Any], report: Report) -> None:
        clock.now_s += 60
        report(1.0, 0.1 if changed_of(settings) else 0.2)

    study = Study(tmp_path / "study", SPACE, 30, clock=clock)
    study.run(fit)
    assert len(study.trials) == 30
    assert study.best
    assert changed_of(study.best.settings) == {}


@pytest.mark.parametrize("minutes", [0.001, 1, 3, 7, 20.5])
def test_search_is_over_with_the_first_epoch_past_its_time(tmp_path: Path, minutes: float) -> None:
    study, fits = searched(tmp_path / "study", minutes)
    assert minutes <= fits.epochs < minutes + 1
    assert study.best
    assert study.best.ndcg


def test_stopped_trial_counts_with_what_it_had_reached_and_goes_on_with_more_time(tmp_path: Path) -> None:
    before, _ = searched(tmp_path / "study", 2)
    stopped = before.trials
    assert [trial.end for trial in stopped] == ["stopped"]
    assert before.best and before.best.ndcg == pytest.approx(0.43 * 2 / EPOCHS)
    after, fits = searched(tmp_path / "study", 7)
    assert fits.seen == [stopped[0].settings]
    assert [trial.end for trial in after.trials] == ["finished"]
    assert after.trials[0].seconds == 7 * 60


def test_killed_search_keeps_its_trials_and_takes_up_the_killed_one(tmp_path: Path) -> None:
    before, killed = searched(tmp_path / "study", 40, killed_at=13)
    done = [trial for trial in before.trials if trial.end != "stopped"]
    after, fits = searched(tmp_path / "study", 40)
    assert len(done) >= 2
    assert after.trials[: len(done)] == done
    assert fits.seen[0] == killed.seen[-1]
    assert fits.epochs == 40 - 12  # the minutes before the kill count
    settings = [str(trial.settings) for trial in after.trials]
    assert len(settings) == len(set(settings))


def test_search_whose_time_is_up_tries_nothing_more(tmp_path: Path) -> None:
    trials = searched(tmp_path / "study", 20)[0].trials
    after, fits = searched(tmp_path / "study", 20)
    assert not fits.seen
    assert after.trials == trials


def test_line_that_a_kill_tore_is_cut_off(tmp_path: Path) -> None:
    trials = searched(tmp_path / "study", 10)[0].trials
    with (tmp_path / "study").open("ab") as file:
        file.write(b'{"op_code": 4, "wor')
    searched(tmp_path / "study", 20)
    again, _ = searched(tmp_path / "study", 20)
    assert again.trials[: len(trials) - 1] == trials[:-1]
    assert len(again.trials) > len(trials)


def test_file_that_is_no_study_is_named(tmp_path: Path) -> None:
    (tmp_path / "study").write_text("nothing\nof this\n")
    with pytest.raises(ArtifactError, match=r"study, where a search of settings stood.*remove it"):
        Study(tmp_path / "study", SPACE, 1)


def test_fit_that_diverges_is_counted_and_never_the_best(tmp_path: Path) -> None:
    clock = Clock()

    def fit(settings: Mapping[str, Any], report: Report) -> None:
        clock.now_s += 60
        if settings["without"]:
            raise DivergedError("the loss of epoch 1 is nan")
        report(1.0, 0.3)

    study = Study(tmp_path / "study", SPACE, 10, clock=clock)
    study.run(fit)
    assert study.best
    assert not study.best.settings["without"]
    assert {trial.end for trial in study.trials} >= {"finished", "failed"}


def test_search_ends_where_everything_was_tried(tmp_path: Path) -> None:
    clock = Clock()
    seen = []

    def fit(settings: Mapping[str, Any], report: Report) -> None:
        seen.append(settings)
        clock.now_s += 1
        report(1.0, 0.3)

    Study(tmp_path / "study", {"without": SPACE["without"]}, 60, clock=clock).run(fit)
    assert sorted(each["without"] for each in seen) == [[], ["transformers"]]


def test_what_is_given_is_not_tried(walk_csv: Path) -> None:
    log = read_behaviour_log(walk_csv)
    config = config_of({})
    ground = prepare(log, config)
    every = space_of(log, ground, config, {})
    assert {"lr", "dropout", "without", "half_life_h"} <= set(every)
    assert "negatives" not in every  # 40 items are ranked in full
    assert not [name for name in every if name.startswith("behaviour_weights")]  # views alone
    assert set(every) - set(space_of(log, ground, config, {"lr": 0.1, "dropout": 0.2})) == {"lr", "dropout"}
    with pytest.raises(SettingsError, match="--tune has nothing to try"):
        space_of(log, ground, config, dict.fromkeys(every))
    for name, values in every.items():
        assert values._contains(values.to_internal_repr(defaults_of(every)[name])), name


def test_large_catalogue_and_several_behaviours_have_more_to_try(walk_csv: Path) -> None:
    log = read_behaviour_log(walk_csv)
    log.behaviour[:50], log.behaviour[50:60] = 4, 3
    config = config_of({"full_softmax_items": 10})
    found = space_of(log, prepare(log, config), config, {})
    assert {"loss", "negatives", "uniform_share"} <= set(found)
    assert [name for name in found if "." in name] == ["behaviour_weights.cart", "behaviour_weights.buy"]
    point = {**defaults_of(found), "behaviour_weights.buy": 2.3456}
    assert changed_of(settings_of(point)) == {"behaviour_weights": [1.0, 1.0, 1.0, 2.35]}


GIVEN = {"epochs": 2, "dimension": 8, "batch_size": 32}


def test_search_on_a_log_writes_a_file_for_config_and_leaves_only_the_bests_state(
    walk_csv: Path, tmp_path: Path
) -> None:
    log = read_behaviour_log(walk_csv)
    told: list[Trial] = []
    clock = iter(range(10_000))
    found = tune(log, GIVEN, 0.5, tmp_path, one_process("cpu"), told.append, clock=lambda: float(next(clock)))
    assert found.best
    assert len(found.trials) == len(told) >= 3
    assert read_config(found.file, {}) == config_of(found.settings)
    assert found.settings == {**GIVEN, **found.best.settings}
    assert found.best.ndcg == max(trial.ndcg or 0.0 for trial in found.trials if trial.end != "pruned")
    states = {path.name.removesuffix(".fork") for path in tmp_path.glob(".training-*")}
    assert len(states) == 1


def run(*arguments: object) -> Result:
    return CliRunner().invoke(train.main, [str(each) for each in arguments])


def test_command_prints_a_table_and_trains_with_the_best(walk_csv: Path, tmp_path: Path) -> None:
    (tmp_path / "given.toml").write_text("dimension = 8\nbatch_size = 32\n")
    given = ("--data-path", walk_csv, "--config", tmp_path / "given.toml", "--epochs", 2)
    found = run(*given, "--save-dir", tmp_path / "store", "--tune", 0.05)
    assert found.exit_code == 0, found.output
    best = re.search(r"^  ndcg .*\n(0\.\d{4}) ", found.stdout, re.MULTILINE)
    assert best
    artifact = load(tmp_path / "store")
    assert f"{artifact.metrics['validation']['ndcg']:.4f}" >= best[1]
    assert not list((tmp_path / "store").glob(".training-*"))
    file = re.search(r"the best are in (\S+),", found.stdout)
    assert file
    again = run("--data-path", walk_csv, "--config", file[1], "--save-dir", tmp_path / "again")
    assert again.exit_code == 0, again.output
    assert load(tmp_path / "again").version == artifact.version


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--tune", 0), "--tune is 0; it must be minutes, above 0"),
        (("--tune", "nan"), "--tune is nan"),
        (("--tune", "inf"), "--tune is inf"),
        (("--tune", 5, "--continue-from", "store"), "--tune means nothing with --continue-from"),
    ],
)
def test_search_that_makes_no_sense_is_refused(
    walk_csv: Path, options: tuple[object, ...], words: str
) -> None:
    found = run("--data-path", walk_csv, *options)
    assert found.exit_code == 2
    assert words in found.stderr


def test_search_under_torchrun_is_refused(walk_csv: Path, tmp_path: Path) -> None:
    several = Processes(one_process("cpu").device, count=2)
    with pytest.raises(SettingsError, match="without torchrun"):
        tune(read_behaviour_log(walk_csv), {}, 1, tmp_path, several)


def test_without_optuna_one_line_says_what_to_install(
    walk_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    found = run("--data-path", walk_csv, "--save-dir", tmp_path, "--tune", 1)
    assert found.exit_code == 1
    assert "pip install 'twintide[tune]'" in found.stderr
    assert "Traceback" not in found.output
