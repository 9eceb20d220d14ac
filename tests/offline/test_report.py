"""The page of a training says what the artifact says."""

import csv
from pathlib import Path

import pytest
from click.testing import CliRunner

from models.artifact.artifact import load
from offline import report, train


@pytest.fixture(scope="module")
def store(walk_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("report")
    (directory / "c.toml").write_text("dimension = 16\nlr = 0.01\n")
    arguments = ["--data-path", walk_csv, "--save-dir", directory, "--epochs", 3]
    arguments += ["--config", directory / "c.toml"]
    assert CliRunner().invoke(train.main, list(map(str, arguments))).exit_code == 0
    return directory


def test_page_shows_curves_figures_and_settings(store: Path, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    table = tmp_path / "epochs.csv"
    arguments = ["--artifact", store, "--out", out, "--csv", table]
    found = CliRunner().invoke(report.main, list(map(str, arguments)))
    assert (found.exit_code, found.stdout) == (0, f"{out}\n{table}\n")
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "2", "3"]
    assert float(rows[-1]["ndcg_at_10"]) == load(store).metrics["epochs"][-1]["validation"]["ndcg_at_10"]
    artifact, page = load(store), out.read_text()
    assert artifact.version in page
    ndcg = [epoch["validation"]["ndcg"] for epoch in artifact.metrics["epochs"]]
    assert f"epoch {1 + ndcg.index(max(ndcg))} of 5" in page
    assert page.count("<polyline") == 3
    assert f"<td>ndcg_at_10</td><td>{artifact.metrics['validation']['ndcg_at_10']:.4f}</td>" in page
    assert "<td>model.dimension</td><td>16</td>" in page


def test_page_that_cannot_be_written_is_one_line(store: Path, tmp_path: Path) -> None:
    found = CliRunner().invoke(
        report.main, ["--artifact", str(store), "--out", str(tmp_path / "no" / "p.html")]
    )
    assert found.exit_code == 2
    assert "cannot be written" in found.stderr
