"""What comes from the cache is what is in the file, whatever happened to either."""

import json
import os
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from models.cache_directory import default_directory
from models.errors import DataError
from models.log import cache as log_cache
from models.log import parts
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
    assert len(list((tmp_path / "cache").iterdir())) == 1


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


@pytest.mark.parametrize("name", ["summary.json", "item.text", "item.offsets", "user.codes", "time_ms"])
def test_damaged_entry_is_replaced(
    csv: Path, tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    expected = as_plain(read_cached(csv, TIANCHI, tmp_path / "cache"))
    (entry,) = (tmp_path / "cache").iterdir()
    whole = (entry / name).read_bytes()
    for damaged in (b"", whole[:-1], whole[:2] + bytes([whole[2] ^ 1]) + whole[3:]):
        caplog.clear()
        (entry / name).write_bytes(damaged)
        assert as_plain(read_cached(csv, TIANCHI, tmp_path / "cache")) == expected
        assert f"{entry} is damaged" in caplog.text
    (entry / name).unlink()
    assert as_plain(read_cached(csv, TIANCHI, tmp_path / "cache")) == expected
    assert as_plain(read_cached(csv, TIANCHI, tmp_path / "cache")) == expected


@pytest.mark.parametrize("form", ["csv", "parquet", "jsonl"])
def test_log_read_in_parts_is_the_whole_log_and_its_rows_stay_in_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, caplog: pytest.LogCaptureFixture
) -> None:
    users, items = (f"u{n * 7 % 50}" for n in range(300)), (f'i "{n * 31 % 120}",é' for n in range(300))
    times = [f"2014-11-18 {n % 24:02}" if n % 7 else f"2014-11-18 {n % 24:02}:30:00" for n in range(300)]
    columns = [list(users), list(items), [str(1 + n % 4) for n in range(300)], ["", "9q"] * 150, ["c"] * 300]
    columns[2][250] = "eleven"
    table = pa.table([*columns, times], names=list(TIANCHI.columns))
    path = tmp_path / f"log.{form}"
    if form == "csv":
        pyarrow.csv.write_csv(table, path)
    elif form == "parquet":
        pyarrow.parquet.write_table(table, path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    log_format = replace(TIANCHI, bad_share=0.01)
    expected = as_plain(read_behaviour_log(path, log_format))
    monkeypatch.setattr(parts, "PART_BYTES", 1_000)
    monkeypatch.setattr(parts, "PART_ROWS", 40)
    monkeypatch.setattr(log_cache, "MAX_WHOLE_BYTES", 0)
    monkeypatch.setattr(log_cache, "read_behaviour_log", no_reading)
    log = read_cached(path, log_format, tmp_path / "cache")
    assert as_plain(log) == expected
    assert (log.bad_rows, len(log)) == (1, 299)
    log.release()
    assert as_plain(log) == expected
    assert isinstance(log.time_ms.base, memoryview), "the rows are in memory"


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


def test_files_without_rows_keep_their_places_in_a_log_read_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_cache, "MAX_WHOLE_BYTES", 0)
    folder = tmp_path / "log"
    folder.mkdir()
    rows = pyarrow.csv.read_csv(pa.BufferReader((HEADER + ROWS).encode()))
    pyarrow.parquet.write_table(rows.slice(0, 0), folder / "a.parquet")
    (folder / "b.csv").write_text(HEADER)
    pyarrow.parquet.write_table(rows, folder / "c.parquet")
    (folder / "d.csv").write_text(HEADER + ROWS.replace("u2", ""))
    expected = as_plain(read_behaviour_log(folder, replace(TIANCHI, bad_share=0.5)))
    assert as_plain(read_cached(folder, replace(TIANCHI, bad_share=0.5), tmp_path / "cache")) == expected
    with pytest.raises(DataError, match=r"d\.csv:3: user_id is empty"):
        read_cached(folder, TIANCHI, tmp_path / "cache")


def test_log_read_in_parts_of_which_no_row_counts_is_refused(
    csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_cache, "MAX_WHOLE_BYTES", 0)
    skipping = replace(TIANCHI, behaviours=dict.fromkeys("124"))
    for read in (read_behaviour_log, read_cached):
        with pytest.raises(DataError, match="no rows"):
            read(csv, skipping)
