"""An archive's directory is right after a crash at any step, and refuses what would double or lose rows."""

import multiprocessing
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet
import pytest

from models.errors import DataError, TwintideError
from models.log.times import DAY_MS
from offline.archiving import directory
from offline.archiving.directory import Progress, opened
from offline.archiving.rows import SCHEMA

TOPIC = "events"


def rows(first: int, end: int) -> Any:
    """Return rows of offsets `first` to `end`, in turn of partition 0 and 1 and of three days."""
    columns = {
        "event_id": [f"e{offset}" for offset in range(first, end)],
        "user_id": ["u"] * (end - first),
        "item_id": ["i"] * (end - first),
        "behavior_type": [1] * (end - first),
        "user_geohash": [None] * (end - first),
        "item_category": ["c"] * (end - first),
        "time": [16_400 * DAY_MS + offset % 3 * DAY_MS + DAY_MS - 1 for offset in range(first, end)],
        "partition": [offset % 2 for offset in range(first, end)],
        "offset": [*range(first, end)],
    }
    return pa.table(columns, SCHEMA)


def progress(end: int) -> Progress:
    return Progress(TOPIC, "id", {0: end}, rows=end)


def add(path: Path, end: int) -> None:
    """Bring an archive up to an offset, by portions of ten, from where it is."""
    with opened(path, TOPIC) as archive:
        while (first := archive.progress.offsets.get(0, 0)) < end:
            archive.add(rows(first, first + 10), progress(first + 10))


def read(path: Path) -> Any:
    return pyarrow.dataset.dataset(path, partitioning="hive").to_table()


def offsets(path: Path) -> list[int]:
    return sorted(read(path).column("offset").to_pylist())


def test_rows_are_in_files_of_their_day_in_the_order_of_the_topic(tmp_path: Path) -> None:
    add(tmp_path, 20)
    assert sorted(str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*.parquet")) == [
        f"day=2014-11-{day}/part-0000000{part}.parquet" for day in (26, 27, 28) for part in (1, 2)
    ]
    found = read(tmp_path).to_pylist()
    assert sorted(row["offset"] for row in found) == [*range(20)]
    for row in found:
        assert row["time"] == datetime(2014, 11, 26 + row["offset"] % 3, 23, 59, 59, 999_000, UTC)
        assert str(row["day"]) == f"{row['time']:%Y-%m-%d}"
    for file in tmp_path.rglob("*.parquet"):
        order = [(row["partition"], row["offset"]) for row in pa.parquet.read_table(file).to_pylist()]
        assert order == sorted(order)


def test_day_is_that_of_utc_also_on_its_edges(tmp_path: Path) -> None:
    table = rows(0, 2).set_column(6, "time", pa.array([DAY_MS, DAY_MS - 1], SCHEMA.field("time").type))
    with opened(tmp_path, TOPIC) as archive:
        archive.add(table, progress(2))
    days = {row["offset"]: str(row["day"]) for row in read(tmp_path).to_pylist()}
    assert days == {0: "1970-01-02", 1: "1970-01-01"}


class Crash(BaseException):
    """Ends the process, as far as the archive can tell."""


def crash_at(step: int, patch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Crash before step number `step` of those that change the disk; return what says how many were made."""
    made = 0

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal made
            if made == step:
                raise Crash
            made += 1
            return function(*arguments, **options)

        return call

    for name in ("mkdir", "replace", "write_bytes"):
        patch.setattr(Path, name, counted(getattr(Path, name)))
    patch.setattr(pa.parquet, "write_table", counted(pa.parquet.write_table))
    patch.setattr(shutil, "rmtree", counted(shutil.rmtree))
    patch.setattr(directory, "_sync", counted(directory._sync))
    return lambda: made


def test_crash_at_any_step_neither_loses_nor_doubles_a_row(tmp_path: Path) -> None:
    seen, step = set(), 0
    while True:
        path = tmp_path / str(step)
        add(path, 10)
        with pytest.MonkeyPatch.context() as patch:
            made = crash_at(step, patch)
            try:
                add(path, 20)
            except Crash:
                assert made() == step
            else:
                break
        with opened(path, TOPIC) as archive:
            reached = archive.progress.offsets[0]
            assert offsets(path) == [*range(reached)]
            assert archive.progress.rows == reached
        seen.add(reached)
        add(path, 40)
        assert offsets(path) == [*range(40)]
        assert not [*path.glob("_pending-*")]
        step += 1
    assert step > 15
    assert seen == {10, 20}


def test_files_may_be_compacted_moved_and_deleted(tmp_path: Path) -> None:
    add(tmp_path, 20)
    day = tmp_path / "day=2014-11-26"
    pa.parquet.write_table(
        pa.concat_tables(map(pa.parquet.read_table, sorted(day.iterdir()))), day / "all.parquet"
    )
    for part in day.glob("part-*"):
        part.unlink()
    shutil.rmtree(tmp_path / "day=2014-11-27")
    add(tmp_path, 30)
    assert offsets(tmp_path) == [offset for offset in range(30) if offset >= 20 or offset % 3 != 1]


def test_progress_without_rows_is_kept(tmp_path: Path) -> None:
    with opened(tmp_path, TOPIC) as archive:
        archive.add(SCHEMA.empty_table(), Progress(TOPIC, "id", {0: 5, 1: 7}, rejected={"key": 5}, lost=3))
    with opened(tmp_path, TOPIC) as archive:
        assert archive.progress == Progress(TOPIC, "id", {0: 5, 1: 7}, 1, rejected={"key": 5}, lost=3)
    assert not [*tmp_path.rglob("*.parquet")]


def test_archive_whose_progress_is_lost_or_damaged_is_refused(tmp_path: Path) -> None:
    add(tmp_path, 10)
    for content in (
        b"{",
        b"\xff",
        b'{"topic": "events", "offsets": {"x": 1}}',
        b'{"topic": "events", "x": 1}',
    ):
        (tmp_path / "_progress.json").write_bytes(content)
        with pytest.raises(DataError, match=r"_progress.json: damaged \("), opened(tmp_path, TOPIC):
            pass
    (tmp_path / "_progress.json").unlink()
    with pytest.raises(DataError, match=r"has days but no _progress.json"), opened(tmp_path, TOPIC):
        pass


def test_archive_of_another_topic_is_refused(tmp_path: Path) -> None:
    add(tmp_path, 10)
    with (
        pytest.raises(TwintideError, match="the archive of topic events, not of clicks"),
        opened(tmp_path, "clicks"),
    ):
        pass


def test_second_process_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path, TOPIC), multiprocessing.get_context("spawn").Pool(1) as pool:
        refusal = pool.apply(refusal_of, (tmp_path,))
    assert refusal == f"{tmp_path}: another process is archiving into it: wait, or stop it"
    add(tmp_path, 10)


def refusal_of(path: Path) -> str:
    try:
        with opened(path, TOPIC):
            return ""
    except TwintideError as error:
        return str(error)
