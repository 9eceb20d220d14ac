"""A factorisation lowers what it minimises, finds known groups, knows no future, and is published whole."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from models.artifact.artifact import load
from models.log.behaviour_log import BehaviourLog, read_behaviour_log
from models.windows.histories import Histories
from models.windows.window import WindowSettings
from offline import analyse, evaluate, train
from offline.factors.learner import FactorLearner, Fit
from offline.factors.pieces import cut_like_windows
from offline.factors.settings import read_factor_config

TINY = read_factor_config(None, {"factors": 4, "ridge": 0.5, "half_life_h": 0.0})


@pytest.fixture(scope="module")
def log(walk_csv: Path) -> BehaviourLog:
    return read_behaviour_log(walk_csv)


def _everything(log: BehaviourLog) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    return np.ones(len(log), np.bool_)


def _slow_loss(fit: Fit) -> float:
    settings, observed = fit.settings, fit.by_user
    total = 0.0
    for user, of_user in enumerate(fit.users.tolist()):
        for item, of_item in enumerate(fit.items.tolist()):
            score = fit.mean + of_user[0] + of_item[0]
            score += sum(u * i for u, i in zip(of_user[1:], of_item[1:], strict=True))
            total += settings.unseen_weight * score**2
            for place in range(observed.starts[user], observed.starts[user + 1]):
                if observed.column[place] == item:
                    total += observed.weight[place] * (observed.value[place] - score) ** 2
    for row in [*fit.users.tolist(), *fit.items.tolist()]:
        total += settings.ridge * sum(value**2 for value in row)
    return total / float(observed.weight.sum())


def test_each_sweep_lowers_the_loss_that_loops_add_up(log: BehaviourLog) -> None:
    fit = FactorLearner(log, _everything(log), TINY).fit
    losses = []
    for _ in range(6):
        fit.sweep()
        losses.append(fit.loss())
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] == pytest.approx(_slow_loss(fit), rel=1e-5)


def test_at_the_end_nothing_moved_a_little_lowers_the_loss(log: BehaviourLog) -> None:
    fit = FactorLearner(log, _everything(log), TINY).fit
    for _ in range(3):
        fit.sweep()
    best = fit.loss()
    for place in np.ndindex(fit.items.shape):  # items were made last: each number of them stands at its best
        for step in (-1e-3, 1e-3):
            fit.items[place] += step
            assert fit.loss() > best
            fit.items[place] -= step


def test_rows_that_are_not_to_be_learned_change_nothing(log: BehaviourLog) -> None:
    rows = log.time_ms < np.sort(log.time_ms)[len(log) * 8 // 10]
    learner = FactorLearner(log, rows, TINY)
    items = log.item.codes.copy()
    items[~rows] = np.random.default_rng(0).permutation(items[~rows])
    shuffled = replace(log, item=replace(log.item, codes=items))
    other = FactorLearner(shuffled, rows, TINY)
    assert learner.epoch() == other.epoch()
    np.testing.assert_array_equal(learner.model().item_vectors(), other.model().item_vectors())


def test_the_last_piece_of_a_user_is_the_window_and_none_is_larger() -> None:
    hour = 3_600_000
    times_ms = np.array([0, 1, 2, 3, 50, 51, 0, 9, 10]) * hour
    numbers = np.arange(9)
    histories = Histories(numbers, numbers, np.ones(9, np.uint8), times_ms, np.array([0, 6, 6, 9]))
    pieces = cut_like_windows(histories, WindowSettings(max_events=3, horizon_ms=10 * hour))
    assert pieces.starts.tolist() == [0, 1, 4, 6, 9]
    alone = cut_like_windows(histories, WindowSettings(max_events=2, horizon_ms=2**60))
    assert alone.starts.tolist() == [0, 2, 4, 6, 7, 9]


def _of_groups(path: Path, seed: int) -> dict[str, str]:
    """Write a log of users who have items of one of three groups, and return the group of each."""
    random = np.random.default_rng(seed)
    lines, group_of = ["user_id,item_id,behavior_type,user_geohash,item_category,time"], {}
    for user in range(60):
        group = int(random.integers(3))
        group_of[f"u{user}"] = f"group {group}"
        for event in range(14):
            item = group * 20 + int(random.integers(20))
            lines.append(
                f"u{user},i{item},1,,c{item % 2},2024-03-{1 + event:02} {int(random.integers(24)):02}"
            )
    path.write_text("\n".join(lines) + "\n")
    return group_of


def test_ten_seeds_find_groups_that_are_there(tmp_path: Path) -> None:
    for seed in range(10):
        group_of = _of_groups(tmp_path / "log.csv", seed)
        log = read_behaviour_log(tmp_path / "log.csv")
        of_seed = replace(TINY, train=replace(TINY.train, seed=seed))
        learner = FactorLearner(log, _everything(log), of_seed)
        for _ in range(5):
            learner.epoch()
        vectors = learner.model().item_vectors()[:, 2:]
        groups = np.array([int(item_id[1:]) // 20 for item_id in learner.vocabulary.item_ids])
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        cosine = unit @ unit.T - 2 * np.eye(len(unit))
        assert (groups[cosine.argmax(axis=1)] == groups).mean() > 0.95
    assert len(group_of) == 60


def test_command_publishes_evaluates_and_draws_groups(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    group_of = _of_groups(tmp_path / "log.csv", 0)
    lines = ["user_id,group", *(f"{user},{group}" for user, group in group_of.items())]
    (tmp_path / "groups.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "mf.toml").write_text("factors = 6\nhalf_life_h = 0\nmax_events = 20\n")
    place = ["--data-path", str(tmp_path / "log.csv")]
    of_model = ["--model", "mf", "--save-dir", str(tmp_path / "a"), "--config", str(tmp_path / "mf.toml")]
    done = CliRunner().invoke(train.main, [*place, *of_model, "--epochs", "3"])
    assert done.exit_code == 0, done.output
    artifact = load(tmp_path / "a")
    assert artifact.version in done.output and artifact.item_vectors.shape[1] == 8
    assert artifact.settings.window.max_events == 20
    training = json.loads((artifact.path / "config.json").read_text())["training"]
    found = CliRunner().invoke(evaluate.main, ["--artifact", str(tmp_path / "a"), *place])
    assert found.exit_code == 0, found.output
    (line,) = [line for line in found.stdout.splitlines() if line.startswith("twintide")]
    assert f"ndcg@10 {line.split()[3]}" in done.output  # the same figure as training's
    assert training["held_out_version"] in found.output
    png = tmp_path / "users.png"
    command = ["--artifact", str(tmp_path / "a"), *place, "--groups", str(tmp_path / "groups.csv")]
    drawn = CliRunner().invoke(analyse.main, [*command, "--png", str(png)])
    assert drawn.exit_code == 0, drawn.output
    assert "60 users of 3 groups" in drawn.stdout and png.read_bytes().startswith(b"\x89PNG")
    share = float(drawn.stdout.partition("same group: ")[2].partition("%")[0])
    assert share > 95


def test_leave_one_out_asks_no_user_of_whom_all_was_learned(tmp_path: Path) -> None:
    _of_groups(tmp_path / "log.csv", 0)
    with (tmp_path / "log.csv").open("a") as log:
        for user in range(40):
            log.writelines(f"short{user},i{item},1,,c,2024-03-02 0{item}\n" for item in (1, 2))
    given = ["--data-path", str(tmp_path / "log.csv"), "--save-dir", str(tmp_path / "a"), "--epochs", "1"]
    done = CliRunner().invoke(train.main, ["--model", "mf", "--protocol", "leave-one-out", *given])
    assert done.exit_code == 0, done.output
    found = CliRunner().invoke(evaluate.main, ["--artifact", str(tmp_path / "a"), *given[:2]])
    assert "60 users with a history (0 without" in found.stdout
    (line,) = [line for line in found.stdout.splitlines() if line.startswith("twintide")]
    assert f"ndcg@10 {line.split()[3]}" in done.output


@pytest.mark.parametrize(
    ("arguments", "setting", "reason"),
    [
        (["--tune", "1"], "", "--tune means nothing with --model mf"),
        (["--lr", "0.1"], "", "--lr means nothing with --model mf"),
        (["--positives", "buy"], "", "--positives means nothing with --model mf"),
        ([], "rigde = 1", "there is no setting 'rigde'"),
        ([], "ridge = -1.0", "ridge is -1.0"),
        ([], "unseen_weight = 0", "nothing to tell items apart"),
        ([], "behaviour_values = [1.0, 2.0]", "behaviour_values is [1.0, 2.0]"),
        (["--epochs", "0"], "", "epochs is 0"),
    ],
)
def test_what_makes_no_sense_is_one_line(
    walk_csv: Path, tmp_path: Path, arguments: list[str], setting: str, reason: str
) -> None:
    (tmp_path / "c.toml").write_text(setting + "\n")
    given = ["--model", "mf", "--data-path", str(walk_csv), "--save-dir", str(tmp_path / "a")]
    found = CliRunner().invoke(train.main, [*given, "--config", str(tmp_path / "c.toml"), *arguments])
    assert found.exit_code in (1, 2)
    assert reason in found.stderr and len(found.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "a").exists()


def test_groups_that_cannot_be_used_are_one_line(walk_csv: Path, tmp_path: Path) -> None:
    given = [
        "--model",
        "mf",
        "--data-path",
        str(walk_csv),
        "--save-dir",
        str(tmp_path / "a"),
        "--epochs",
        "1",
    ]
    assert CliRunner().invoke(train.main, given).exit_code == 0
    groups = tmp_path / "groups.csv"
    command = ["--artifact", str(tmp_path / "a"), "--data-path", str(walk_csv), "--groups", str(groups)]
    for content, reason in (
        (None, "cannot be read"),
        ("user_id,taste\nu1,a\n", "has no column group"),
        ("user_id,group\nu1,\n", ":2 has no user_id or no group"),
        ("user_id,group\nsomebody,a\n", "0 of the groups"),
    ):
        if content is not None:
            groups.write_text(content)
        found = CliRunner().invoke(analyse.main, command)
        assert (found.exit_code, reason in found.stderr) == (1, True), found.output
