"""What comes from the cache is what is in the file, whatever happened to either."""

import os
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from models.cache_directory import default_directory
from models.log import cache as log_cache
from models.log.behaviour_log import BehaviourLog, read_behaviour_log
from models.log.cache import read_cached
from models.log.format import TIANCHI, LogFormat

HEADER = "user_id,item_id,behavior_type,user_geohash,item_category,time\n"
ROWS = 'u1,"i ,é",1,9q,c1,2014-11-18 09\nu2,i2,4,,,2014-11-18 10:30\nu1,i2,2,,c2,2014-11-18 11\n'


@pytest.fixture(autouse=True)
def _keep_small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_cache, "MIN_BYTES", 0)


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    (tmp_path / "log.csv").write_text(HEADER + ROWS)
    return tmp_path / "log.csv"


def as_plain(log: BehaviourLog) -> dict[str, object]:
    plain: dict[str, object] = {}
    for field in fields(log):
        value = getattr(log, field.name)
        if isinstance(value, np.ndarray):
            plain[field.name] = value.tolist()
        elif hasattr(value, "codes"):
            plain[field.name] = (value.codes.tolist(), value.values.tolist())
        else:
            plain[field.name] = value
    return plain


def no_reading(*_: object) -> BehaviourLog:
    raise AssertionError("the file was read")


def test_second_reading_gives_the_same_without_the_file(
    csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert as_plain(read_cached(csv, TIANCHI, tmp_path / "cache")) == as_plain(read_behaviour_log(csv))
    expected = as_plain(read_behaviour_log(csv))
    monkeypatch.setattr(log_cache, "read_behaviour_log", no_reading)
    assert as_plain(read_cached(csv, TIANCHI, tmp_path / "cache")) == expected
    assert [file.suffix for file in (tmp_path / "cache").iterdir()] == [".npz"]


def test_another_content_or_format_is_read_anew(csv: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    read_cached(csv, TIANCHI, cache)
    assert len(read_cached(csv, LogFormat(category=""), cache).category.values) == 1
    csv.write_text(HEADER + ROWS + ROWS)
    assert len(read_cached(csv, TIANCHI, cache)) == 6
    assert len(list(cache.iterdir())) == 3


def test_many_files_are_one_entry_that_any_change_of_them_outdates(
    csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "day=1/other.csv"
    other.parent.mkdir()
    other.write_text(HEADER + ROWS)
    cache, paths = tmp_path / "cache", [csv, other]
    read = as_plain(read_cached(paths, TIANCHI, cache))
    assert read == as_plain(read_behaviour_log(paths))
    with monkeypatch.context() as patched:
        patched.setattr(log_cache, "read_behaviour_log", no_reading)
        assert as_plain(read_cached(paths, TIANCHI, cache)) == read
    assert read_cached([other, csv], TIANCHI, cache).places.files == (str(other), str(csv))
    other.rename(tmp_path / "moved.csv")
    (tmp_path / "day=2").mkdir()
    (tmp_path / "moved.csv").rename(tmp_path / "day=2/other.csv")
    by_day = LogFormat(category="day")
    csv.unlink()
    for day in "23":
        assert read_cached(tmp_path / f"day={day}", by_day, cache).category.values.tolist() == [day]
        (tmp_path / f"day={day}").rename(tmp_path / f"day={int(day) + 1}")


@pytest.mark.parametrize("kept", [0, 30, 500])
def test_damaged_entry_is_replaced(
    csv: Path, tmp_path: Path, kept: int, caplog: pytest.LogCaptureFixture
) -> None:
    expected = as_plain(read_cached(csv, TIANCHI, tmp_path / "cache"))
    (entry,) = (tmp_path / "cache").iterdir()
    whole = entry.read_bytes()
    entry.write_bytes(whole[:kept])
    assert as_plain(read_cached(csv, TIANCHI, tmp_path / "cache")) == expected
    assert f"{entry} is damaged" in caplog.text
    flipped = bytearray(whole)
    flipped[whole.index(b"i2")] ^= 1
    entry.write_bytes(flipped)
    assert as_plain(read_cached(csv, TIANCHI, tmp_path / "cache")) == expected


def test_unwritable_cache_costs_a_warning(
    csv: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cache").write_text("a file where the directory should be")
    assert len(read_cached(csv, TIANCHI, tmp_path / "cache")) == 3
    assert "cannot be written" in caplog.text


def test_only_the_logs_used_last_are_kept(csv: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    read_cached(csv, TIANCHI, cache)
    (first,) = cache.iterdir()
    for rows in range(2, 2 + log_cache.KEPT):
        os.utime(first, (rows, rows))
        csv.write_text(HEADER + ROWS * rows)
        read_cached(csv, TIANCHI, cache)
    assert len(list(cache.iterdir())) == log_cache.KEPT
    assert not first.exists()


def test_small_files_are_not_kept(csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_cache, "MIN_BYTES", 10_000)
    read_cached(csv, TIANCHI, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_cache_lies_where_the_system_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_directory() == tmp_path / "twintide"
