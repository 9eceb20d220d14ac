"""What is published has learned every row, and goes on: it learns what is new and keeps its space."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from models.artifact.artifact import load
from models.artifact.settings import ArtifactSettings
from models.ids.vocabulary import Vocabulary
from models.ids.vocabulary_file import FIRST_KNOWN
from models.log.behaviour_log import read_behaviour_log
from models.towers.dual_towers import DualTowers
from models.towers.features import features
from models.windows.histories import Histories
from offline import evaluate, train
from offline.training.growing import grown, union

FAST = "dimension = 16\ndropout = 0.1\nshort_events = 4\nlr = 0.01\nbatch_size = 4\nepochs = 4\n"


def run(command: str, *arguments: object) -> Result:
    main = {"train": train.main, "evaluate": evaluate.main}[command]
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def halves(walk_csv: Path, folder: Path) -> tuple[Path, Path]:
    """Write the earlier 70 % of a log's rows, and all of them and one of a new item; return both."""
    header, *rows = walk_csv.read_text().splitlines()
    rows.sort(key=lambda row: row.split(",")[5])
    user, _, *rest = rows[-1].split(",")
    paths = folder / "earlier.csv", folder / "all.csv"
    paths[0].write_text("\n".join([header, *rows[: len(rows) * 7 // 10]]) + "\n")
    paths[1].write_text("\n".join([header, *rows, ",".join([user, "brand-new", *rest])]) + "\n")
    return paths


@pytest.fixture(scope="module")
def made(walk_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give a folder with both logs and a store trained on the earlier one."""
    folder = tmp_path_factory.mktemp("continuing")
    earlier, _ = halves(walk_csv, folder)
    (folder / "fast.toml").write_text(FAST)
    found = run("train", "--data-path", earlier, "--save-dir", folder / "s", "--config", folder / "fast.toml")
    assert found.exit_code == 0, found.output
    yield folder


def test_published_model_knows_every_item_and_its_figures_are_of_one_that_did_not_learn_them(
    made: Path,
) -> None:
    log, artifact = read_behaviour_log(made / "earlier.csv"), load(made / "s")
    assert set(artifact.item_ids) == set(log.item.strings())
    assert artifact.training["learned_until_ms"] == log.time_ms.max()
    held_out = load(made / "s" / artifact.training["held_out_version"])
    assert held_out.training["learned_until_ms"] < held_out.training["cutoff_ms"]
    assert held_out.metrics == artifact.metrics
    printed = run("evaluate", "--artifact", made / "s", "--data-path", made / "earlier.csv").stdout
    assert f"model {held_out.version}" in printed


def test_without_a_final_fit_what_is_published_is_what_was_tested(made: Path, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(FAST + "final_fit = false\n")
    arguments = "--data-path", made / "earlier.csv", "--save-dir", tmp_path, "--config", tmp_path / "c.toml"
    assert run("train", *arguments).exit_code == 0
    artifact = load(tmp_path)
    assert "held_out_version" not in artifact.training
    assert artifact.training["learned_until_ms"] < artifact.training["cutoff_ms"]


def test_going_on_learns_new_rows_and_items_and_moves_little(made: Path, tmp_path: Path) -> None:
    before = load(made / "s")
    arguments = "--continue-from", made / "s", "--save-dir", tmp_path
    found = run("train", "--data-path", made / "all.csv", *arguments)
    assert found.exit_code == 0, found.output
    after, log = load(tmp_path), read_behaviour_log(made / "all.csv")
    assert set(after.item_ids) == set(log.item.strings())
    assert after.training["continued_from"] == before.version
    assert after.training["learned_until_ms"] == log.time_ms.max()
    moved = re.search(r"vectors before: items (\S+), users (\S+)", found.stdout)
    assert moved
    assert all(0.8 < float(cosine) < 0.9999 for cosine in moved.groups())
    again = run("train", "--data-path", made / "all.csv", "--continue-from", tmp_path, "--save-dir", tmp_path)
    assert again.exit_code == 1
    assert "no row is newer than what" in again.stderr
    assert len(again.stderr.strip().splitlines()) == 1


def test_an_artifact_that_learned_these_rows_is_evaluated_on_later_ones_only(
    made: Path, tmp_path: Path
) -> None:
    (tmp_path / "s").mkdir()
    artifact = load(made / "s")
    artifact.path.rename(tmp_path / "s" / "alone")
    try:
        asked = "--artifact", tmp_path / "s" / "alone", "--data-path", made / "all.csv"
        found = run("evaluate", *asked)
        assert found.exit_code == 1
        assert "is not beside it" in found.stderr
        later = run("evaluate", *asked, "--cutoff", artifact.training["learned_until_ms"] + 1)
        assert f"model {artifact.version}" in later.stdout
    finally:
        (tmp_path / "s" / "alone").rename(artifact.path)


def test_grown_towers_make_the_same_vectors_and_score_known_items_alike() -> None:
    before = Vocabulary(["a", "b", "c"], [2, 3, 1], ["x", "y"])
    more = Vocabulary(["n", "c", "b", "a"], [4, 1, 4, 3], ["w", "x", "y"])
    settings = ArtifactSettings()
    torch.manual_seed(0)
    towers = DualTowers(before, settings.features, settings.model).eval()
    with torch.no_grad():
        for parameter in towers.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    towers.items.set_popularity(torch.randn(3))
    larger = grown(towers, before, more, settings.features).eval()
    vectors = [
        model(features(history(vocabulary, "abcab"), settings.features)).user
        for model, vocabulary in ((towers, before), (larger, more))
    ]
    torch.testing.assert_close(vectors[0], vectors[1])
    torch.testing.assert_close(larger.item_vectors()[[3, 2, 1]], towers.item_vectors())
    new = larger.items(torch.tensor([FIRST_KNOWN]), torch.tensor([4]))
    torch.testing.assert_close(new, towers.items(torch.tensor([1]), torch.tensor([3])))


def history(vocabulary: Vocabulary, item_ids: str) -> Histories:
    item = vocabulary.item_indices(list(item_ids))
    category = vocabulary.categories_of(item, np.ones(len(item), np.int64))
    count = len(item)
    return Histories(item, category, np.ones(count, np.uint8), np.arange(count), np.array([0, count]))


def test_union_forgets_first_what_the_log_does_not_have() -> None:
    before = Vocabulary(["a", "b", "c"], [2, 3, 1], ["x", "y"])
    log = Vocabulary(["n", "b"], [2, 1], ["z"])
    both = union(before, log, 3)
    assert both.item_ids == ["n", "b", "a"]
    assert both.category_ids == ["x", "y", "z"]
    assert both.item_categories.tolist() == [4, 1, 2]
