"""The walk of a log: every event of it is asked for once, by a model of before it."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from bench import learning
from models.log.behaviour_log import read_behaviour_log
from offline.synthetic.behaviour import SampleSettings
from offline.synthetic.file import write_sample


@pytest.fixture(scope="module")
def sample_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sample") / "log.csv"
    write_sample(SampleSettings(users=20, rows=1_000), path, to_second=True)
    return path


def test_report_compares_never_anew_and_going_on(sample_csv: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    arguments = ["--data-path", sample_csv, "--steps", 2, "--often", 2, "--json", tmp_path / "r.json"]
    found = CliRunner().invoke(learning.main, [*map(str, arguments), "--png", str(tmp_path / "l.png")])
    assert found.exit_code == 0, found.output
    results = json.loads((tmp_path / "r.json").read_text())["results"]
    assert set(results) == {"never again", "anew", "going on", "going on, 2 times a step"}
    assert results["never again"]["CPU s per step"] < 0.1 * results["anew"]["CPU s per step"]
    assert results["going on"]["CPU s of anew"] == pytest.approx(
        results["going on"]["CPU s per step"] / results["anew"]["CPU s per step"]
    )
    assert (tmp_path / "l.png").stat().st_size > 0


def test_steps_follow_each_other_and_part_no_rows_of_one_time(sample_csv: Path) -> None:
    log = read_behaviour_log(sample_csv).in_time_order()
    bounds = learning._bounds(log, 7)
    assert bounds[-1] == len(log)
    assert len(log) * 0.8 - 20 < bounds[0] <= len(log) * 0.8
    assert (np.diff(bounds) > 0).all()
    assert (log.time_ms[bounds[:-1] - 1] < log.time_ms[bounds[:-1]]).all()
