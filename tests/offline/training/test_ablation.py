"""What is left out stays out, through training and in the artifact."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from models.artifact.artifact import load
from offline import ablate, train
from offline.training.ablation import PARTS, is_neutral

FAST = "dimension = 16\ndropout = 0.1\nshort_events = 4\nlr = 0.01\nbatch_size = 4\n"


@pytest.mark.parametrize("part", PARTS)
def test_part_left_out_never_learns_and_all_else_does(walk_csv: Path, tmp_path: Path, part: str) -> None:
    (tmp_path / "c.toml").write_text(FAST + f'epochs = 2\nwithout = ["{part}"]\n')
    arguments = [
        "--data-path",
        str(walk_csv),
        "--config",
        str(tmp_path / "c.toml"),
        "--save-dir",
        str(tmp_path),
    ]
    found = CliRunner().invoke(train.main, arguments)
    assert found.exit_code == 0, found.output
    artifact = load(tmp_path)
    assert artifact.training["without"] == [part]
    learned = [name for name in PARTS if not is_neutral(artifact.towers, name)]
    implied = {
        "long": {"transformers"},
        "transformers": {"long"},
        "direct": set(),
        "category": {"difference"},
    }
    assert part not in learned
    assert set(PARTS) - set(learned) <= {part} | implied.get(part, set())


def test_table_has_a_line_per_variant(walk_csv: Path, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(FAST + "epochs = 1\n")
    arguments = ["--data-path", str(walk_csv), "--config", str(tmp_path / "c.toml"), "--seeds", "2"]
    only = ["--only", "everything", "--only", "sessions", "--only", "direct"]
    found = CliRunner().invoke(ablate.main, [*arguments, *only])
    assert found.exit_code == 0, found.output
    lines = re.findall(r"^(\S+) +0\.\d{4} +0\.\d{4} +0\.\d{4} +\d+$", found.stdout, re.MULTILINE)
    assert lines == ["(everything)", "sessions", "direct"]


def test_unknown_part_is_refused(walk_csv: Path, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('without = ["head"]\n')
    found = CliRunner().invoke(
        train.main, ["--data-path", str(walk_csv), "--config", str(tmp_path / "c.toml")]
    )
    assert found.exit_code == 2
    assert "without is 'head'; it must be of gap, " in found.stderr
