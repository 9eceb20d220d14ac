"""Similarities that can be told by hand, and a map on which near is near."""

import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from offline import analyse, train

#: Two groups at right angles.
EAST, NORTH = [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]


def test_similarity_within_and_between_groups() -> None:
    vectors = np.array([EAST, EAST, NORTH, [0.0, -1.0, 0.0]], dtype=np.float32)
    found = analyse.similarity(vectors, np.array([0, 0, 1, 1]))
    assert (found.within, found.between) == (pytest.approx(0.0), 0.0)  # 1 in one group, -1 in the other
    found = analyse.similarity(vectors, np.array([0, 1, 2, 3]))
    assert np.isnan(found.within)
    assert found.between == pytest.approx((1 - 1) / 6)


def test_groups_are_apart_on_the_map() -> None:
    random = np.random.default_rng(0)
    vectors = np.repeat([EAST, NORTH], 20, axis=0) + random.normal(0, 0.05, (40, 3))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    places = analyse.place_on_map(vectors.astype(np.float32))
    middles = places.reshape(2, 20, 2).mean(axis=1)
    spread = np.linalg.norm(places.reshape(2, 20, 2) - middles[:, None], axis=2).mean()
    assert np.linalg.norm(middles[0] - middles[1]) > 2 * spread


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
