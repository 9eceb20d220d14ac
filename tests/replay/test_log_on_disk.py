import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from models.errors import DataError
from models.log import parts
from models.log.behaviour_log import read_behaviour_log
from models.log.format import TIANCHI
from models.log.parts import read_in_parts
from replay import log_on_disk, open_log, ordered_log
from replay.disturbances import Disturbances
from replay.log_on_disk import LogOnDisk
from replay.open_log import opened_log
from replay.ordered_log import LogInMemory, OrderedLog
from replay.pace import Pace
from replay.records import Records, joined
from replay.schedule import Schedule, ScheduleSettings
from replay.selection import Selection, Users

HEADER = "user_id,item_id,behavior_type,user_geohash,item_category,time"
EVERYTHING = Disturbances(0.2, 1_000, 0.1, 9_000, 0.2, 1_000, 0.1, 0.1)


def csv_rows(count: int, seed: int = 0) -> list[str]:
    """Return rows in any order of time, some of them equal, some with quotes and line ends in them."""
    random = np.random.default_rng(seed)
    names = ["u1", "u2", '"a ""b"", c"', "用户", "u5", "u6"]
    items = [*(f"i{item}" for item in range(11)), '"two\nlines"']
    rows = [
        f"{names[user]},{items[item]},{item % 4 + 1},,c{item % 3},2014-11-{18 + day} {hour:02d}"
        for user, item, day, hour in random.integers(0, [6, 12, 3, 24], (count, 4)).tolist()
    ]
    return rows + rows[: count // 10]


def as_csv(path: Path, rows: list[str]) -> Path:
    path.write_text("\n".join([HEADER, *rows]) + "\n", encoding="utf-8")
    return path


def as_windows_csv(path: Path, rows: list[str]) -> Path:
    path.write_bytes("\r\n".join([HEADER, *rows]).encode())
    return path


def as_gzip(path: Path, rows: list[str]) -> Path:
    path.write_bytes(gzip.compress("\n".join([HEADER, *rows]).encode()))
    return path


def as_parquet(path: Path, rows: list[str]) -> Path:
    log = read_behaviour_log(as_csv(path.with_suffix(".csv"), rows))
    table = {
        "user_id": log.user.strings(), "item_id": log.item.strings(), "behavior_type": log.behaviour,
        "user_geohash": log.geohash.strings(), "item_category": log.category.strings(),
        "time": pa.array(log.time_ms, pa.timestamp("ms")),
    }  # fmt: skip
    pyarrow.parquet.write_table(pa.table(table), path)
    return path


@pytest.fixture
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "PART_BYTES", 700)
    monkeypatch.setattr(parts, "PART_ROWS", 45)
    monkeypatch.setattr(log_on_disk, "BATCH_ROWS", 2_048)
    monkeypatch.setattr(ordered_log, "CHUNK_ROWS", 60)


def records_of(log: OrderedLog, disturbances: Disturbances) -> Records:
    return joined(
        list(Schedule(log, ScheduleSettings(Pace(1, 1), disturbances=disturbances, laps=2)).blocks())
    )


WRITERS = [as_csv, as_windows_csv, as_gzip, as_parquet]
SELECTIONS = [
    Selection(),
    Selection(first_ms=1_416_300_000_000, end_ms=1_416_400_000_000, limit=50),
    Selection(users=Users.of("u1,用户")),
]


@pytest.mark.usefixtures("_small_parts")
@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("selection", SELECTIONS)
def test_a_log_on_the_disk_is_replayed_as_one_in_memory(
    write: Callable[[Path, list[str]], Path], selection: Selection, tmp_path: Path
) -> None:
    paths = [
        str(write(tmp_path / "one", csv_rows(400))),
        str(write(tmp_path / "two", csv_rows(100, seed=1))),
    ]
    in_memory = LogInMemory(read_behaviour_log(paths), selection)
    with LogOnDisk(paths, TIANCHI, selection) as on_disk:
        assert on_disk.timeline.rows == in_memory.timeline.rows
        for disturbances in (Disturbances(), EVERYTHING):
            one, two = (records_of(log, disturbances) for log in (in_memory, on_disk))
            assert (one.keys, one.values) == (two.keys, two.values)
            assert one.due_s.tolist() == two.due_s.tolist()


@pytest.mark.usefixtures("_small_parts")
def test_parts_are_small_and_know_their_lines(tmp_path: Path) -> None:
    path = as_csv(tmp_path / "log.csv", csv_rows(400))
    found = list(read_in_parts(path, TIANCHI))
    whole = read_behaviour_log(path)
    assert len(found) > 15
    assert max(map(len, found)) < 60
    assert np.concatenate([part.line for part in found]).tolist() == whole.line.tolist()


BAD = {
    "a few are left out": (["u1,i1,9,,c,2014-11-18 00"], None),
    "too many": (
        ["u1,i1,9,,c,2014-11-18 00", "u1,i1"] * 30,
        r"log.csv:402: behavior_type is '9'.*60 of 460 rows",
    ),
}


@pytest.mark.usefixtures("_small_parts")
@pytest.mark.parametrize(("rows", "error"), BAD.values(), ids=BAD)
def test_bad_rows_are_counted_over_all_parts(
    rows: list[str], error: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plain = [row for row in csv_rows(1_000) if '"' not in row][:400]
    path = as_csv(tmp_path / "log.csv", plain + rows)
    if error is None:
        with LogOnDisk([str(path)], TIANCHI, Selection()) as log:
            assert log.timeline.rows == 400
        assert "1 of 401 rows are bad and left out: line 402: behavior_type is '9'" in caplog.text
        return
    for read in (lambda: LogOnDisk([str(path)], TIANCHI, Selection()), lambda: read_behaviour_log(path)):
        with pytest.raises(DataError, match=error):
            read()


@pytest.mark.usefixtures("_small_parts")
def test_what_cannot_be_read_or_chosen_is_said_as_ever(tmp_path: Path) -> None:
    path = str(as_csv(tmp_path / "log.csv", csv_rows(50)))
    with pytest.raises(DataError, match="no rows are chosen; the log covers 2014-11-18"):
        LogOnDisk([path], TIANCHI, Selection(users=Users.of("nobody")))
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(DataError, match="the file is empty"):
        LogOnDisk([str(tmp_path / "empty.csv")], TIANCHI, Selection())
    as_csv(tmp_path / "rowless.csv", [])
    with pytest.raises(DataError, match="there is a header but no rows"):
        LogOnDisk([str(tmp_path / "rowless.csv")], TIANCHI, Selection())


def test_a_large_log_is_sorted_on_the_disk_and_nothing_of_it_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(as_csv(tmp_path / "log.csv", csv_rows(50)))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    with opened_log([path], TIANCHI, Selection()) as log:
        assert isinstance(log, LogInMemory)
    monkeypatch.setattr(open_log, "MEMORY_BYTES", 100)
    with opened_log([path], TIANCHI, Selection()) as log:
        assert isinstance(log, LogOnDisk)
        assert list((tmp_path / "temporary").iterdir())
    assert not list((tmp_path / "temporary").iterdir())
