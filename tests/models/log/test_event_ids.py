"""A row keeps its event id when rows are added or mended; equal rows are as many events."""

from pathlib import Path

import numpy as np
import pyarrow.csv
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.log.behaviour_log import BehaviourLog, read_behaviour_log
from models.log.event_ids import EventIds

HEADER = "user_id,item_id,behavior_type,user_geohash,item_category,time\n"
ROWS = ["u1,i1,1,,c1,2014-11-18 09\n", "u2,i1,1,,c1,2014-11-18 09\n", "u1,i1,1,,c1,2014-11-18 09\n"]
MORE = ["u1,i1,1,,c1,2014-11-18 09\n", "u3,i2,2,9q,c2,2014-11-19 10\n"]


def log_of(path: Path, *rows: str) -> BehaviourLog:
    path.write_text(HEADER + "".join(rows))
    return read_behaviour_log(path)


def ids(log: BehaviourLog) -> list[str]:
    return EventIds(log).of(slice(None))


def test_ids_are_short_and_unique_also_of_equal_rows(tmp_path: Path) -> None:
    first, other, second = ids(log_of(tmp_path / "log.csv", *ROWS))
    assert second == f"{first}-1"
    assert len(first) == len(other) == 16
    assert other != first


def test_appended_rows_leave_the_ids_before_them(tmp_path: Path) -> None:
    before = ids(log_of(tmp_path / "day1.csv", *ROWS))
    after = ids(log_of(tmp_path / "both.csv", *ROWS, *MORE))
    assert after[:3] == before
    assert after[3] == f"{before[0]}-2"
    assert len(set(after)) == 5


def test_line_that_is_mended_changes_its_own_id_alone(tmp_path: Path) -> None:
    bad = "u9,i9,1,,c1,2014-11-18 25\n"
    rows = [*ROWS, MORE[1]] * 200
    before = ids(log_of(tmp_path / "bad.csv", bad, *rows))
    after = ids(log_of(tmp_path / "good.csv", bad.replace(" 25", " 12"), *rows))
    assert len(after) == len(before) + 1
    assert after[1:] == before


def test_every_column_counts(tmp_path: Path) -> None:
    rows = [
        "u,i,1,g,c,2014-11-18 09\n",
        "v,i,1,g,c,2014-11-18 09\n",
        "u,j,1,g,c,2014-11-18 09\n",
        "u,i,2,g,c,2014-11-18 09\n",
        "u,i,1,h,c,2014-11-18 09\n",
        "u,i,1,g,d,2014-11-18 09\n",
        "u,i,1,g,c,2014-11-18 10\n",
        "i,u,1,g,c,2014-11-18 09\n",
        "u,i,1,c,g,2014-11-18 09\n",
    ]
    assert len({event_id.partition("-")[0] for event_id in ids(log_of(tmp_path / "log.csv", *rows))}) == 9


def test_order_of_reading_and_kind_of_file_do_not_matter(tmp_path: Path) -> None:
    log = log_of(tmp_path / "log.csv", *ROWS, *MORE)
    pyarrow.parquet.write_table(pyarrow.csv.read_csv(tmp_path / "log.csv"), tmp_path / "log.parquet")
    log_of(tmp_path / "a.csv", *ROWS)
    log_of(tmp_path / "b.csv", *MORE)
    parts = read_behaviour_log([tmp_path / "a.csv", tmp_path / "b.csv"])
    assert ids(log) == ids(read_behaviour_log(tmp_path / "log.parquet")) == ids(parts)
    assert sorted(ids(log)) == sorted(ids(log_of(tmp_path / "back.csv", *reversed([*ROWS, *MORE]))))


@given(rows=st.lists(st.sampled_from([*ROWS, *MORE]), min_size=1, max_size=30), limit=st.integers(0, 30))
def test_rows_chosen_as_replay_does_have_the_ids_of_the_whole(
    tmp_path_factory: pytest.TempPathFactory, rows: list[str], limit: int
) -> None:
    log = log_of(tmp_path_factory.mktemp("log") / "log.csv", *rows)
    whole = dict(zip(log.line.tolist(), ids(log), strict=True))
    assert len(set(whole.values())) == len(rows)
    ordered = log.in_time_order()
    for part in (
        ordered,
        ordered.select(np.arange(min(limit, len(rows)))),
        log.select(log.time_ms > 1_416_355_200_000),
    ):
        assert ids(part) == [whole[line] for line in part.line.tolist()]


def test_row_that_a_log_holds_twice_is_one_event(tmp_path: Path) -> None:
    log = log_of(tmp_path / "log.csv", *ROWS)
    first, other, second = ids(log)
    assert ids(log.select(np.array([0, 2, 0, 1, 1]))) == [first, second, first, other, other]
