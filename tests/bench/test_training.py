"""The training benchmark without SASRec, whose environment takes minutes to make."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench import training
from offline.synthetic.behaviour import SampleSettings
from offline.synthetic.file import write_sample


def test_report_has_both_halves_of_a_training_over_the_same_events(tmp_path: Path) -> None:
    write_sample(SampleSettings(users=20, rows=600), tmp_path / "log.csv", to_second=True)
    arguments = ["--data-path", tmp_path / "log.csv", "--sasrec-epochs", 0, "--json", tmp_path / "r.json"]
    found = CliRunner().invoke(training.main, [*map(str, arguments)])
    assert found.exit_code == 0, found.output
    direct, whole = json.loads((tmp_path / "r.json").read_text())["results"].values()
    assert direct["events"] == whole["events"] == pytest.approx(0.8 * 600 - 20, abs=20)
    for result in (direct, whole):
        assert result["events/s"] == pytest.approx(result["events"] / result["s per epoch"])
