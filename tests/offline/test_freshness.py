"""The freshness curve: accuracy falls with the age of the history."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from offline import freshness, train


def test_accuracy_falls_with_age_where_the_next_item_follows_from_the_last(
    walk_csv: Path, tmp_path: Path
) -> None:
    (tmp_path / "c.toml").write_text("dimension = 16\ndropout = 0.1\nlr = 0.01\nbatch_size = 4\n")
    arguments = ["--data-path", str(walk_csv)]
    trained = ["--save-dir", str(tmp_path), "--epochs", "6", "--config", str(tmp_path / "c.toml")]
    assert CliRunner().invoke(train.main, [*arguments, *trained]).exit_code == 0
    found = CliRunner().invoke(freshness.main, [*arguments, "--artifact", str(tmp_path)])
    assert found.exit_code == 0, found.output
    rows = re.findall(r"^(\w[\w ]*?)\s+\d\.\d{4}\s+(\d\.\d{4})", found.stdout, re.MULTILINE)
    assert [name for name, _ in rows] == ["fresh", "1 min", "1 h", "1 day", "frozen"]
    ndcg = [float(figure) for _, figure in rows]
    assert ndcg[0] >= ndcg[1] > ndcg[2] > ndcg[4]  # no two events are less than a minute apart


def test_picture_is_drawn(walk_csv: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    (tmp_path / "c.toml").write_text("dimension = 16\n")
    arguments = ["--data-path", str(walk_csv)]
    trained = ["--save-dir", str(tmp_path), "--epochs", "1", "--config", str(tmp_path / "c.toml")]
    assert CliRunner().invoke(train.main, [*arguments, *trained]).exit_code == 0
    png = tmp_path / "curve.png"
    found = CliRunner().invoke(freshness.main, [*arguments, "--artifact", str(tmp_path), "--png", str(png)])
    assert found.exit_code == 0, found.output
    assert png.read_bytes().startswith(b"\x89PNG")
    assert found.stdout.splitlines()[-1] == str(png)
