"""The freshness curve: older histories end earlier, and accuracy falls with them."""

import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from models.ids.vocabulary import FIRST_KNOWN
from models.towers.histories import Histories
from models.windows.window import WindowSettings
from offline import freshness, train
from offline.evaluation.staleness import histories_before

MINUTE_MS = 60_000


def past_of(minutes: list[list[int]]) -> Histories:
    times = np.array([minute for user in minutes for minute in user], dtype=np.int64) * MINUTE_MS
    return Histories(
        item=np.arange(len(times)) + FIRST_KNOWN,
        category=np.full(len(times), 2),
        behaviour=np.ones(len(times), np.uint8),
        time_ms=times,
        starts=np.cumsum([0, *map(len, minutes)]),
    )


def events_read(age_ms: int | None, window: WindowSettings) -> list[list[int]]:
    """Return the events that a history holds for event 4 of the first user and event 2 of the second."""
    past = past_of([[0, 10, 20, 30, 30], [5, 25, 26]])
    found = histories_before(past, np.array([4, 7]), age_ms, 15 * MINUTE_MS, window)
    return [
        (found.item[first:last] - FIRST_KNOWN).tolist()
        for first, last in zip(found.starts, found.starts[1:], strict=False)
    ]


@pytest.mark.parametrize(
    ("age_ms", "expected"),
    [
        (0, [[0, 1, 2, 3], [5, 6]]),
        (MINUTE_MS, [[0, 1, 2], [5, 6]]),
        (10 * MINUTE_MS, [[0, 1, 2], [5]]),
        (1000 * MINUTE_MS, [[], []]),
        (None, [[0, 1], [5]]),
    ],
)
def test_history_ends_that_long_before_the_target(age_ms: int | None, expected: list[list[int]]) -> None:
    assert events_read(age_ms, WindowSettings()) == expected


def test_old_history_is_still_a_window() -> None:
    assert events_read(0, WindowSettings(max_events=2)) == [[2, 3], [5, 6]]
    assert events_read(0, WindowSettings(horizon_ms=12 * MINUTE_MS)) == [[2, 3], [6]]


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
