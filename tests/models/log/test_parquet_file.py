"""Parquet is read by name like CSV, whatever types its columns have."""

import datetime
import uuid
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from models.errors import DataError
from models.events import Behaviour
from models.log.behaviour_log import BehaviourLog, read_behaviour_log
from models.log.format import LogFormat

TEN = datetime.datetime(2014, 11, 18, 10)
TEN_MS = 1_416_304_800_000
COLUMNS: dict[str, list[Any]] = {
    "extra": [{"any": 1}, None, {"any": 2}],
    "time": [TEN, TEN, TEN + datetime.timedelta(hours=1)],
    "user_id": ["u1", "u2", "u1"],
    "item_id": [7, 8, 7],
    "behavior_type": [1, 4, 3],
    "user_geohash": ["9q", None, ""],
    "item_category": ["c", "d", None],
}


def read(folder: Path, log_format: LogFormat | None = None, **columns: Any) -> BehaviourLog:
    table = pa.table(COLUMNS | columns)
    pyarrow.parquet.write_table(table, folder / "log.parquet", row_group_size=2)
    return read_behaviour_log(folder / "log.parquet", log_format or LogFormat())


def test_columns_are_found_by_name(tmp_path: Path) -> None:
    log = read(tmp_path)
    assert log.user.strings().tolist() == ["u1", "u2", "u1"]
    assert log.item.strings().tolist() == ["7", "8", "7"]
    assert log.behaviour.tolist() == [1, 4, 3]
    assert log.geohash.strings().tolist() == ["9q", "", ""]
    assert log.category.strings().tolist() == ["c", "d", ""]
    assert log.time_ms.tolist() == [TEN_MS, TEN_MS, TEN_MS + 3_600_000]
    assert log.line.tolist() == [1, 2, 3]
    assert [len(set(column.values)) == len(column.values) for column in (log.user, log.geohash)] == [True] * 2


IDS = {
    "whole floats": (pa.array([12.0, 1e15, 12.0]), ["12", "1000000000000000", "12"]),
    "large integers": (pa.array([2**64 - 1, 0, 1], pa.uint64()), ["18446744073709551615", "0", "1"]),
    "bytes": (pa.array([b"a", b"b", "ü".encode()]), ["a", "b", "ü"]),
    "categories": (pa.array(["a", "b", "a"]).dictionary_encode(), ["a", "b", "a"]),
    "large strings": (pa.array(["a", "b", "a"], pa.large_string()), ["a", "b", "a"]),
    "decimals": (pa.array([1, 2, 1]).cast(pa.decimal128(20)), ["1", "2", "1"]),
    "UUIDs": (
        pa.array([uuid.UUID(int=number).bytes for number in (1, 2, 1)], pa.uuid()),
        [str(uuid.UUID(int=number)) for number in (1, 2, 1)],
    ),
}


@pytest.mark.parametrize("kind", IDS)
def test_ids_of_any_type_are_their_texts(tmp_path: Path, kind: str) -> None:
    values, expected = IDS[kind]
    assert read(tmp_path, user_id=values).user.strings().tolist() == expected


def test_old_timestamps_of_spark_are_read_in_any_year(tmp_path: Path) -> None:
    late = datetime.datetime(9998, 1, 1)
    table = pa.table(COLUMNS | {"time": pa.array([TEN, TEN, late], pa.timestamp("us"))})
    path = tmp_path / "log.parquet"
    pyarrow.parquet.write_table(table.slice(0, 2), path, use_deprecated_int96_timestamps=True)
    assert read_behaviour_log(path).time_ms.tolist() == [TEN_MS, TEN_MS]


def test_time_of_a_year_that_python_does_not_have_is_named(tmp_path: Path) -> None:
    far = pa.array([TEN_MS * 1_000, 9 * 10**17, TEN_MS * 1_000], pa.timestamp("us"))
    with pytest.raises(DataError, match=r"row 2: time is 9\d*; it must be a time in the years 1 to 9999"):
        read(tmp_path, time=far)
    assert read(tmp_path, LogFormat(bad_share=0.9), time=far).line.tolist() == [1, 3]


def test_rows_that_make_no_sense_are_named_by_row(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(DataError, match=r"log\.parquet: row 2: user_id is empty"):
        read(tmp_path, user_id=["u1", None, "u1"])
    log = read(tmp_path, LogFormat(bad_share=0.9), user_id=["u1", None, "u1"], time=[None, TEN, TEN])
    assert (log.bad_rows, log.line.tolist()) == (2, [3])
    assert "row 1: time is null" in caplog.text
    assert "row 2: user_id is empty" in caplog.text


def test_other_names_are_read_through_a_format(tmp_path: Path) -> None:
    log_format = LogFormat(user="member", geohash="", behaviours={"pv": Behaviour.VIEW, "buy": Behaviour.BUY})
    log = read(tmp_path, log_format, member=["m", "m", "n"], behavior_type=["pv", "buy", "pv"])
    assert (log.user.strings().tolist(), log.behaviour.tolist()) == (["m", "m", "n"], [1, 4, 1])


def test_column_of_a_type_without_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"log\.parquet: user_id is of type list<.*>; it must be texts or"):
        read(tmp_path, user_id=[[1], [2], [3]])


def test_missing_column_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"log\.parquet: it lacks member; found 'extra,time,user_id"):
        read(tmp_path, LogFormat(user="member"))


def test_cut_or_damaged_file_is_refused_in_one_line(tmp_path: Path) -> None:
    read(tmp_path)
    path = tmp_path / "log.parquet"
    whole = path.read_bytes()
    for content in (
        whole[:-9],
        whole[: len(whole) // 2],
        whole[:4],
        b"",
        b"PAR?",
        whole[:30] + bytes(90) + whole[120:],
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"log\.parquet: (cannot be read|not a Parquet file)") as caught:
            read_behaviour_log(path)
        assert "\n" not in str(caught.value)


def test_file_without_rows_is_refused(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pa.table(COLUMNS).slice(0, 0), tmp_path / "log.parquet")
    with pytest.raises(DataError, match="no rows"):
        read_behaviour_log(tmp_path / "log.parquet")


def test_files_of_other_types_and_of_csv_are_one_log(tmp_path: Path) -> None:
    read(tmp_path)
    text = pa.table(COLUMNS | {"time": ["2014-11-18 12"] * 3, "item_id": ["7", "8", "9"]})
    pyarrow.parquet.write_table(text, tmp_path / "later.parquet")
    (tmp_path / "last.csv").write_text(
        "user_id,item_id,behavior_type,user_geohash,item_category,time\nu1,7,1,,c,1416315600\n"
    )
    log = read_behaviour_log([tmp_path / name for name in ("log.parquet", "later.parquet", "last.csv")])
    assert log.item.strings().tolist() == ["7", "8", "7", "7", "8", "9", "7"]
    assert log.time_ms.tolist()[3:] == [TEN_MS + 2 * 3_600_000] * 3 + [TEN_MS + 3 * 3_600_000]
    assert log.places.name(int(log.line[-2])) == f"{tmp_path}/later.parquet: row 3"
    assert log.places.name(int(log.line[-1])) == f"{tmp_path}/last.csv:2"
