"""CSV -> artifact -> figures: it learns, it repeats, and anyone can compute the figures from the vectors."""

import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
from click.testing import CliRunner, Result

from models.artifact.artifact import load
from models.ids.vocabulary import Vocabulary
from models.towers.dual_towers import DualTowers
from offline import evaluate, export, train
from offline.training import run as training
from offline.training.final_fit import fit_finally
from offline.training.progress import Epoch
from offline.training.report import text_of_epoch

FAST = "dimension = 16\ndropout = 0.1\nshort_events = 4\nlr = 0.01\nbatch_size = 4\n"


def run(command: ModuleType, *arguments: object) -> Result:
    return CliRunner().invoke(command.main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def store(walk_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("store")
    (directory / "fast.toml").write_text(FAST)
    found = run(
        train,
        "--data-path",
        walk_csv,
        "--save-dir",
        directory,
        "--epochs",
        6,
        "--config",
        directory / "fast.toml",
    )
    assert found.exit_code == 0, found.output
    artifact = load(directory)
    lines = re.findall(r"^epoch +\d+ .*recall@10 .*ndcg@10 .*mrr@10", found.stdout, re.MULTILINE)
    assert 4 <= len(lines) == len(artifact.metrics["epochs"]) <= 9  # three of six are done twice
    assert f"version {artifact.version}, publication 1" in found.stdout
    return directory


def figures(table: str) -> dict[str, list[float]]:
    """Return the figures of each line of the table."""
    rows = re.findall(r"^(\w[\w ]*?)\s+((?:\d\.\d{4}\s*)+)$", table, re.MULTILINE)
    return {name: [float(figure) for figure in found.split()] for name, found in rows}


def test_model_learns_the_walk_and_beats_popularity(store: Path, walk_csv: Path) -> None:
    found = run(evaluate, "--artifact", store, "--data-path", walk_csv)
    assert found.exit_code == 0, found.output
    table = figures(found.stdout)
    named = {
        "popularity",
        "recent popularity",
        "last hour",
        "last day",
        "had last",
        "markov",
        "item kNN",
        "session kNN",
    }
    named |= {"category alone", "cold start"}  # the model's, too
    assert set(table) - {"ALS", "BPR"} == {"twintide", *named}
    assert table["twintide"][2] > 2 * table["popularity"][2]
    assert table["markov"][2] > 0.6


@pytest.mark.parametrize("protocol", ["time", "leave-one-out"])
def test_figures_follow_from_the_exported_vectors_alone(
    store: Path, walk_csv: Path, tmp_path: Path, protocol: str
) -> None:
    """Rank outside, with nothing of ours but the parquet files."""
    printed = run(evaluate, "--artifact", store, "--data-path", walk_csv, "--protocol", protocol).stdout
    rows = [line.split(",") for line in walk_csv.read_text().splitlines()[1:]]
    rows.sort(key=lambda row: row[5])
    history, target = walk_csv, {}
    arguments: list[object] = []
    if protocol == "time":
        cutoff = re.search(r"at or after (\S+ \S+) ", printed)
        assert cutoff
        arguments = ["--until", cutoff[1]]
        for row in reversed([row for row in rows if row[5] >= cutoff[1]]):
            target[row[0]] = row[1]
    else:
        last = {row[0]: row for row in rows}
        target = {user: row[1] for user, row in last.items()}
        history = tmp_path / "history.csv"
        kept = [row for row in rows if row is not last[row[0]]]
        history.write_text("\n".join([walk_csv.read_text().splitlines()[0], *map(",".join, kept)]) + "\n")
    held_out = store / load(store).training["held_out_version"]
    asked = "--artifact", held_out, "--data-path", history
    found = run(export, *asked, "--to", "parquet", "--out", tmp_path, *arguments)
    assert found.exit_code == 0, found.output
    users = pyarrow.parquet.read_table(tmp_path / "users.parquet").to_pydict()
    items = pyarrow.parquet.read_table(tmp_path / "items.parquet").to_pydict()
    catalogue = np.array(items["vec"], dtype=np.float32)
    ranks = []
    for user, vector in zip(users["user_id"], users["vec"], strict=True):
        if user in target:
            scores = catalogue @ np.array(vector, dtype=np.float32)
            ranks.append((scores >= scores[items["item_id"].index(target[user])]).sum())
    ranked = np.array(ranks)
    assert len(ranked) > 20
    outside = [
        (ranked <= 10).mean(),
        (ranked <= 20).mean(),
        np.where(ranked <= 10, 1 / np.log2(1 + ranked), 0).mean(),
        (1 / ranked).mean(),
    ]
    assert figures(printed)["twintide"][:4] == [pytest.approx(figure, abs=6e-5) for figure in outside]


def test_seen_items_can_be_left_out(store: Path, walk_csv: Path) -> None:
    found = run(evaluate, "--artifact", store, "--data-path", walk_csv, "--exclude-seen")
    assert found.exit_code == 0, found.output
    assert "items new to the user are ranked" in found.stdout
    assert re.search(r"^\d+ users whose next item they had before are left out", found.stdout, re.MULTILINE)


def test_details_have_a_line_for_every_ranker(store: Path, walk_csv: Path) -> None:
    found = run(evaluate, "--artifact", store, "--data-path", walk_csv, "--details")
    assert found.exit_code == 0, found.output
    first, second = (re.findall(r"^(\w[\w ]*?)  ", part, re.MULTILINE) for part in found.stdout.split("\n\n"))
    assert first[-len(second) :] == second
    ours = re.search(r"^twintide +(\S+) +(\S+)", found.stdout.split("\n\n")[1], re.MULTILINE)
    assert ours
    assert float(ours[1]) < figures(found.stdout)["twintide"][2] < float(ours[2])


def test_exported_users_are_all_users_and_the_cold_start_user(
    store: Path, walk_csv: Path, tmp_path: Path
) -> None:
    assert (
        run(
            export, "--artifact", store, "--data-path", walk_csv, "--to", "parquet", "--out", tmp_path
        ).exit_code
        == 0
    )
    users = pyarrow.parquet.read_table(tmp_path / "users.parquet")
    assert [str(field.type) for field in users.schema] == ["string", *["list<element: float>"] * 3, "int64"]
    ids = users["user_id"].to_pylist()
    assert sorted(ids) == sorted(
        {line.split(",")[0] for line in walk_csv.read_text().splitlines()[1:]} | {""}
    )
    assert users["ts"].to_pylist()[ids.index("late#1")] == 1_717_027_200_000
    items = pyarrow.parquet.read_table(tmp_path / "items.parquet")
    assert items["item_id"].to_pylist() == load(store).item_ids


def test_same_seed_gives_the_same_version_and_another_seed_another(walk_csv: Path, tmp_path: Path) -> None:
    (tmp_path / "fast.toml").write_text(FAST)
    versions = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        arguments = ("--epochs", 1, "--seed", seed, "--config", tmp_path / "fast.toml")
        found = run(train, "--data-path", walk_csv, "--save-dir", tmp_path / name, *arguments)
        assert found.exit_code == 0, found.output
        versions.append(load(tmp_path / name).version)
    assert versions[0] == versions[1] != versions[2]


@pytest.mark.parametrize("loss", ["full-softmax", "sampled-softmax"])
@pytest.mark.parametrize("broken_in", [("direct", 3), ("everything", 3)])
def test_interrupted_training_goes_on_to_the_same_version(
    walk_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loss: str, broken_in: tuple[str, int]
) -> None:
    (tmp_path / "fast.toml").write_text(FAST + f'loss = "{loss}"\nnegatives = 20\n')
    arguments = ("--data-path", walk_csv, "--epochs", 4, "--config", tmp_path / "fast.toml")
    whole = run(train, *arguments, "--save-dir", tmp_path / "whole")
    show = text_of_epoch
    with monkeypatch.context() as patch:

        def show_or_break(epoch: Epoch) -> str:
            text = show(epoch)
            assert (epoch.learns, epoch.number) != broken_in
            return text

        patch.setattr(train, "text_of_epoch", show_or_break)
        broken = run(train, *arguments, "--save-dir", tmp_path / "broken")
        assert isinstance(broken.exception, AssertionError)
    assert list((tmp_path / "broken").glob(".training-*"))
    again = run(train, *arguments, "--save-dir", tmp_path / "broken")
    assert again.exit_code == 0, again.output
    assert load(tmp_path / "broken").version == load(tmp_path / "whole").version
    epochs = [re.findall(r"^epoch.*$", found.stdout, re.MULTILINE) for found in (whole, again)]
    assert epochs[0] == epochs[1]
    assert list((tmp_path / "broken").glob(".training-*")) == []


def test_same_training_is_not_done_twice_at_once(
    walk_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each would remove what the other resumes from, and reads at its second stage."""
    (tmp_path / "fast.toml").write_text(FAST)
    arguments = ("--data-path", walk_csv, "--epochs", 2, "--config", tmp_path / "fast.toml")
    others: list[Result] = []

    def start_another(epoch: Epoch) -> str:
        if not others:
            others.append(run(train, *arguments, "--save-dir", tmp_path / "store"))
        return text_of_epoch(epoch)

    monkeypatch.setattr(train, "text_of_epoch", start_another)
    found = run(train, *arguments, "--save-dir", tmp_path / "store")
    assert found.exit_code == 0, found.output
    assert others[0].exit_code == 1
    assert "another process does just this, of the same log and with the same settings" in others[0].stderr
    assert not list((tmp_path / "store").glob(".lock*"))


def test_model_that_is_no_number_is_not_published(
    walk_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = fit_finally

    def diverge(*arguments: Any) -> tuple[DualTowers, Vocabulary]:
        towers, vocabulary = fit(*arguments)
        for weights in towers.parameters():
            weights.data.fill_(np.nan)
        return towers, vocabulary

    monkeypatch.setattr(training, "fit_finally", diverge)
    (tmp_path / "fast.toml").write_text(FAST)
    given = ("--data-path", walk_csv, "--epochs", 1, "--config", tmp_path / "fast.toml")
    found = run(train, *given, "--save-dir", tmp_path / "store")
    assert found.exit_code == 1
    assert "vectors that are not finite" in found.stderr
    assert not (tmp_path / "store" / "current").exists()


def test_towers_are_not_published_where_a_ranker_is_followed(
    walk_csv: Path, store: Path, tmp_path: Path
) -> None:
    rankers, version = tmp_path / "rankers", "0f3a9c2b7d11"
    (rankers / version).mkdir(parents=True)
    (rankers / version / "config.json").write_text('{"encoder": "ranker"}')
    (rankers / version / "checksums.json").write_text("{}")
    (rankers / "current").symlink_to(version)
    for options in ((), ("--continue-from", store)):
        found = run(train, "--data-path", walk_csv, "--save-dir", rankers, *options)
        assert found.exit_code == 2
        assert "has a ranker active, which the serving API follows" in found.stderr
    assert (rankers / "current").readlink() == Path(version)


def test_damaged_checkpoint_is_one_line(
    walk_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fast.toml").write_text(FAST)
    arguments = ("--data-path", walk_csv, "--epochs", 2, "--config", tmp_path / "fast.toml")
    with monkeypatch.context() as patch:
        patch.setattr(train, "text_of_epoch", lambda _: 1 / 0)
        run(train, *arguments, "--save-dir", tmp_path)
    checkpoint = min(tmp_path.glob(".training-*"), key=lambda path: len(path.name))
    checkpoint.write_bytes(b"something else")
    found = run(train, *arguments, "--save-dir", tmp_path)
    assert found.exit_code == 1
    assert f"{checkpoint}, where an interrupted training stood" in found.stderr


@pytest.mark.parametrize("in_batch", ["true", "false"])
@pytest.mark.parametrize("loss", ["full-softmax", "sampled-softmax", "bpr", "bce", "gbce"])
def test_every_loss_trains_leave_one_out(walk_csv: Path, tmp_path: Path, loss: str, in_batch: str) -> None:
    chosen = f'loss = "{loss}"\nnegatives = 20\nin_batch_negatives = {in_batch}\npopularity_power = 0.75\n'
    (tmp_path / "c.toml").write_text(FAST + chosen)
    arguments = ("--epochs", 2, "--protocol", "leave-one-out", "--config", tmp_path / "c.toml")
    found = run(train, "--data-path", walk_csv, "--save-dir", tmp_path, *arguments)
    assert found.exit_code == 0, found.output
    losses = [float(loss) for loss in re.findall(r"loss (\d+\.\d+)", found.stdout)]
    assert losses[1] < losses[0]
    assert load(tmp_path).training["cutoff_ms"] is None


@pytest.mark.parametrize("from_history", ["true", "false"])
@pytest.mark.parametrize("loss", ["sampled-softmax", "bpr"])
def test_hard_negatives_train_too(walk_csv: Path, tmp_path: Path, loss: str, from_history: str) -> None:
    chosen = f'loss = "{loss}"\nnegatives = 20\nhard_share = 0.3\nhard_refresh_steps = 3\n'
    (tmp_path / "c.toml").write_text(FAST + chosen + f"hard_from_history = {from_history}\n")
    arguments = ("--epochs", 4, "--config", tmp_path / "c.toml")
    found = run(train, "--data-path", walk_csv, "--save-dir", tmp_path, *arguments)
    assert found.exit_code == 0, found.output
    losses = [float(loss) for loss in re.findall(r"loss (\d+\.\d+)", found.stdout)]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("loss", ["full-softmax", "sampled-softmax"])
def test_scores_by_cosine_learn_the_walk_too(walk_csv: Path, tmp_path: Path, loss: str) -> None:
    (tmp_path / "c.toml").write_text(FAST + f'score = "cosine"\nloss = "{loss}"\nnegatives = 20\n')
    arguments = ("--epochs", 6, "--config", tmp_path / "c.toml")
    found = run(train, "--data-path", walk_csv, "--save-dir", tmp_path, *arguments)
    assert found.exit_code == 0, found.output
    artifact = load(tmp_path)
    np.testing.assert_allclose(np.linalg.norm(artifact.item_vectors, axis=1), 1, atol=1e-5)
    assert artifact.metrics["test"]["ndcg_at_10"] > 0.5


HEADER = "user_id,item_id,behavior_type,user_geohash,item_category,time\n"


@pytest.mark.parametrize(
    ("content", "arguments", "status", "words"),
    [
        (None, (), 1, "log.csv"),
        ("", (), 1, "log.csv"),
        ("a,b\n1,2\n", (), 1, "log.csv"),
        (HEADER + "u,i,1,,c,2014-12-01 10\n", (), 1, "too few"),
        (HEADER + "u,i,1,,c,2014-12-01 10\n" * 50, (), 1, "too few"),
        (HEADER, ("--epochs", 0), 2, "epochs is 0; expected `int` >= 1"),
        (HEADER, ("--lr", -1), 2, "lr is -1"),
        (HEADER, ("--lr", "nan"), 2, "lr is nan"),
        (HEADER, ("--epochs", "many"), 2, "many"),
        (HEADER, ("--speed", 3), 2, "--speed"),
        (HEADER, ("--config", "nowhere.toml"), 2, "nowhere.toml"),
    ],
)
def test_bad_input_is_one_line(
    tmp_path: Path, content: str | None, arguments: tuple[object, ...], status: int, words: str
) -> None:
    if content is not None:
        (tmp_path / "log.csv").write_text(content)
    found = run(train, "--data-path", tmp_path / "log.csv", "--save-dir", tmp_path / "store", *arguments)
    assert found.exit_code == status
    error = [line for line in found.stderr.splitlines() if line.startswith("Error")]
    assert len(error) == 1
    assert words in error[0]
    assert not (tmp_path / "store" / "current").exists()


def test_damaged_artifact_is_one_line(store: Path, walk_csv: Path, tmp_path: Path) -> None:
    source = load(store).path
    for file in source.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    sums = json.loads((tmp_path / "checksums.json").read_text())
    (tmp_path / "checksums.json").write_text(json.dumps({name: "0" * 64 for name in sums}))
    for command in (evaluate, export):
        found = run(command, "--artifact", tmp_path, "--data-path", walk_csv)
        assert found.exit_code == 1
        assert "config.json is damaged" in found.stderr


@pytest.mark.parametrize("until", ["yesterday", "2014-13-01 00"])
def test_time_that_cannot_be_read_is_refused(until: str) -> None:
    found = run(export, "--until", until)
    assert found.exit_code == 2
    assert f"--until is {until!r}" in found.stderr


def test_figures_of_rows_that_were_learned_are_warned_of(
    store: Path, walk_csv: Path, caplog: pytest.LogCaptureFixture
) -> None:
    asked = ("--artifact", store, "--data-path", walk_csv)
    for options, warns in (
        ((), False),
        (("--cutoff", "2024-03-02"), True),
        (("--protocol", "leave-one-out"), True),
    ):
        caplog.clear()
        assert run(evaluate, *asked, *options).exit_code == 0
        assert ("the figures flatter it" in caplog.text) == warns


def test_walk_of_nothing_but_repeats_is_one_line(store: Path, walk_csv: Path, tmp_path: Path) -> None:
    header, *lines = walk_csv.read_text().splitlines()
    rows = sorted((line.split(",") for line in lines if not line.startswith("late")), key=lambda row: row[5])
    first: dict[str, str] = {}
    kept = [",".join([row[0], first.setdefault(row[0], row[1]), *row[2:]]) for row in rows]
    (tmp_path / "repeats.csv").write_text("\n".join([header, *kept]) + "\n")
    asked = ("--artifact", store, "--data-path", tmp_path / "repeats.csv", "--protocol", "stream")
    assert run(evaluate, *asked).exit_code == 0
    found = run(evaluate, *asked, "--exclude-seen")
    assert found.exit_code == 1
    assert "rows drawn has an item that its user had before: leave --exclude-seen out" in found.stderr


def test_cutoff_that_cannot_be_read_is_refused_by_its_name(store: Path, walk_csv: Path) -> None:
    found = run(evaluate, "--artifact", store, "--data-path", walk_csv, "--cutoff", "yesterday")
    assert found.exit_code == 2
    assert "--cutoff is 'yesterday'" in found.stderr
