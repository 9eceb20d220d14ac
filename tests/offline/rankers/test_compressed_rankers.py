"""A compressed ranker is served as any, and published only where it ranks nearly as well."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from models.rankers.artifact import module_of
from models.rankers.golden import golden_questions
from models.rankers.load import load_ranker
from offline import compress, ensemble, evaluate

Published = Callable[[str], tuple[Path, str]]


def run(store: Path, walk_csv: Path, *arguments: object) -> Any:
    given = ["--artifact", store, "--data-path", walk_csv, *arguments]
    return CliRunner().invoke(compress.main, list(map(str, given)))


@pytest.mark.parametrize("kind", ["din", "dsin", "dien"])
def test_command_publishes_what_is_smaller_and_ranks_nearly_as_well(
    published: Published, walk_csv: Path, tmp_path: Path, kind: str
) -> None:
    store, _ = published(kind)
    before = load_ranker(str(store))
    found = run(store, walk_csv, "--int8", "--max-loss", 0.2, "--save-dir", tmp_path)
    assert found.exit_code == 0, found.output
    small = load_ranker(str(tmp_path))
    assert f"version {small.version}, publication 1" in found.stdout
    assert small.training["compressed"] == {"from": before.version, "int8": True, "prune": 0.0}
    tables = module_of(small).vectors
    assert {str(each.weight.dtype) for each in (tables.item, tables.category)} == {"torch.int8"}
    sizes = [sum(file.stat().st_size for file in each.directory.iterdir()) for each in (before, small)]
    assert sizes[1] < sizes[0]  # by little: of so few items the layers are most
    asked = golden_questions(before.vocabulary)
    assert np.abs(small.ranker.rank(*asked).score - before.ranker.rank(*asked).score).max() < 0.1
    figures = re.search(r"^auc +(0\.\d{4}) +(0\.\d{4})$", found.stdout, re.MULTILINE)
    assert figures
    for folder, loaded, auc in ((store, before, figures[1]), (tmp_path, small, figures[2])):
        shown = CliRunner().invoke(evaluate.main, ["--artifact", str(folder), "--data-path", str(walk_csv)])
        assert shown.exit_code == 0, shown.output
        assert f"ranker {loaded.training['held_out_version']}" in shown.stdout
        assert re.search(rf"^ranker +{auc} ", shown.stdout, re.MULTILINE)
    assert load_ranker(str(store)).version == before.version


def test_what_cannot_be_compressed_is_one_line(published: Published, walk_csv: Path, tmp_path: Path) -> None:
    store, _ = published("din")
    assert run(store, walk_csv, "--int8", "--max-loss", 1, "--save-dir", tmp_path / "small").exit_code == 0
    rankers = ["--ranker", store, "--ranker", published("dsin")[0], "--save-dir", tmp_path / "both"]
    made = CliRunner().invoke(ensemble.main, list(map(str, [*rankers, "--data-path", walk_csv])))
    assert made.exit_code == 0, made.output
    cases = [
        ("--prune means nothing for a ranker", run(store, walk_csv, "--prune", 0.3)),
        ("is compressed already, from", run(tmp_path / "small", walk_csv, "--int8")),
        ("is an ensemble: name one that it is made of", run(tmp_path / "both", walk_csv, "--int8")),
    ]
    for message, found in cases:
        assert found.exit_code == 2, found.output
        assert message in found.output and "Traceback" not in found.output
        assert len(found.output.split("Error: ")[1].splitlines()) == 1
