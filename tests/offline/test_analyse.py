"""The command prints what it is asked and draws it."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from offline import analyse, train
from offline.evaluation.user_groups import read_groups


def test_command_prints_similarities_and_draws(walk_csv: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    (tmp_path / "c.toml").write_text("dimension = 16\n")
    arguments = ["--data-path", walk_csv, "--save-dir", tmp_path, "--epochs", 1]
    arguments += ["--config", tmp_path / "c.toml"]
    assert CliRunner().invoke(train.main, list(map(str, arguments))).exit_code == 0
    png = tmp_path / "map.png"
    found = CliRunner().invoke(analyse.main, ["--artifact", str(tmp_path), "--png", str(png)])
    assert found.exit_code == 0, found.output
    assert "40 items of 5 categories" in found.stdout
    assert png.read_bytes().startswith(b"\x89PNG")
    heat = tmp_path / "attention.png"
    command = ["--artifact", str(tmp_path), "--attention", "--data-path", str(walk_csv)]
    found = CliRunner().invoke(analyse.main, [*command, "--png", str(heat)])
    assert found.exit_code == 0, found.output
    assert "mean over users: 61" in found.stdout
    assert re.search(r"^long tower, head 2 +most at \d+ events back", found.stdout, re.MULTILINE)
    assert heat.read_bytes().startswith(b"\x89PNG")
    found = CliRunner().invoke(analyse.main, [*command, "--user", "late#1"])
    assert (
        "mean over users: 1\ndirect path         most at 0 events back, half of it within 1" in found.stdout
    )
    found = CliRunner().invoke(analyse.main, [*command, "--user", "nobody"])
    assert (found.exit_code, "has no user 'nobody'" in found.stderr) == (1, True)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--user", "u"], "--user means nothing without --attention"),
        (["--attention", "--groups", "g.csv"], "--attention and --groups show different things"),
    ],
)
def test_options_that_mean_nothing_together_are_refused(options: list[str], reason: str) -> None:
    found = CliRunner().invoke(analyse.main, options)
    assert (found.exit_code, reason in found.stderr) == (2, True)


def test_groups_may_come_from_a_spreadsheet(tmp_path: Path) -> None:
    (tmp_path / "groups.csv").write_bytes("user_id,group\r\nü1,a\r\n".encode("utf-8-sig"))
    assert read_groups(tmp_path / "groups.csv") == {"ü1": "a"}
