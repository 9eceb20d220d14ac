"""The benchmark of rankers on a small made-up log."""

import json
from pathlib import Path

from click.testing import CliRunner

from bench import rankers
from offline.synthetic.behaviour import SampleSettings
from offline.synthetic.file import write_sample


def test_report_holds_rankers_and_popularity(tmp_path: Path) -> None:
    write_sample(SampleSettings(users=20, rows=600), tmp_path / "log.csv", to_second=True)
    arguments = ["--data-path", tmp_path / "log.csv", "--seeds", 2, "--epochs", 1, "--only", "dsin"]
    found = CliRunner().invoke(rankers.main, [*map(str, arguments), "--json", str(tmp_path / "r.json")])
    assert found.exit_code == 0, found.output
    results = json.loads((tmp_path / "r.json").read_text())["results"]
    assert set(results) == {"popularity", "dsin"}
    assert 0 < results["dsin"]["auc"] < 1
    assert results["dsin"]["auc +-"] > 0
    assert results["dsin"]["parameters"] > 1_000


def test_a_contestant_that_there_is_not_is_one_line(tmp_path: Path) -> None:
    found = CliRunner().invoke(rankers.main, ["--only", "xgboost"])
    assert found.exit_code == 2
    assert "xgboost" in found.output.splitlines()[-1]
