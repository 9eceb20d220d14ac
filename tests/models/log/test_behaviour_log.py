from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import DataError
from models.events import Behaviour
from models.log.behaviour_log import (
    HOUR_MS,
    MINUTE_MS,
    SECOND_MS,
    BehaviourLog,
    read_behaviour_log,
)
from models.log.format import LogFormat
from models.log.values import Column

HEADER = "user_id,item_id,behavior_type,user_geohash,item_category,time"
NINE_O_CLOCK_MS = 1_416_301_200_000  # 2014-11-18 09:00 UTC
ROW = "u1,i1,1,,c1,2014-11-18 09"


def write(folder: Path, *rows: str, header: str = HEADER, end: str = "\n") -> Path:
    path = folder / "log.csv"
    path.write_text("\n".join((header, *rows)) + end, encoding="utf-8", newline="")
    return path


def read(folder: Path, *rows: str, header: str = HEADER) -> BehaviourLog:
    return read_behaviour_log(write(folder, *rows, header=header))


def test_every_column_of_a_row_is_read(tmp_path: Path) -> None:
    log = read(tmp_path, "u1,i1,4,9qz,c1,2014-11-18 09", "u2,i1,3,,c1,2014-11-18 10")
    assert len(log) == 2
    assert log.user.strings().tolist() == ["u1", "u2"]
    assert log.item.strings().tolist() == ["i1", "i1"]
    assert log.item.values.tolist() == ["i1"]
    assert log.category.strings().tolist() == ["c1", "c1"]
    assert log.geohash.strings().tolist() == ["9qz", ""]
    assert log.behaviour.tolist() == [Behaviour.BUY, Behaviour.CART]
    assert log.time_ms.tolist() == [NINE_O_CLOCK_MS, NINE_O_CLOCK_MS + HOUR_MS]
    assert log.line.tolist() == [2, 3]


@pytest.mark.parametrize(
    "user_id", ["12#3", "007", "7", "7.0", "NA", "null", "nan", "用户", "a,b", 'say "hi"', " x"]
)
def test_an_id_is_the_string_that_stands_in_the_file(tmp_path: Path, user_id: str) -> None:
    quoted = '"' + user_id.replace('"', '""') + '"'
    log = read(tmp_path, ROW, f"{quoted},{quoted},1,,c1,2014-11-18 09")
    assert log.user.strings().tolist() == ["u1", user_id]
    assert log.item.strings().tolist() == ["i1", user_id]


@given(user_ids=st.lists(st.text(min_size=1).filter(lambda s: s.isprintable()), min_size=1, max_size=20))
def test_any_printable_id_comes_back(tmp_path_factory: pytest.TempPathFactory, user_ids: list[str]) -> None:
    rows = ['"' + user_id.replace('"', '""') + '",i,1,,c,2014-11-18 09' for user_id in user_ids]
    log = read(tmp_path_factory.mktemp("ids"), *rows)
    assert log.user.strings().tolist() == user_ids


@pytest.mark.parametrize(
    ("times", "precision_ms", "last_ms"),
    [
        (["2014-11-18 09", "2014-11-18 10"], HOUR_MS, HOUR_MS),
        (["2014-11-18 09", "2014-11-18 09:30"], MINUTE_MS, 30 * MINUTE_MS),
        (["2014-11-18 09:30", "2014-11-18 09:30:15"], SECOND_MS, 30 * MINUTE_MS + 15 * SECOND_MS),
        (["2014-11-18 09:00:00", "2014-11-18 10:00:00"], HOUR_MS, HOUR_MS),
    ],
)
def test_precision_is_the_finest_unit_in_use(
    tmp_path: Path, times: list[str], precision_ms: int, last_ms: int
) -> None:
    log = read(tmp_path, *(f"u,i,1,,c,{time}" for time in times))
    assert log.precision_ms == precision_ms
    assert log.time_ms[-1] == NINE_O_CLOCK_MS + last_ms


def test_time_order_keeps_file_order_within_one_time(tmp_path: Path) -> None:
    hours = [11, 9, 11, 10, 9, 11]
    log = read(tmp_path, *(f"u{n},i,1,,c,2014-11-18 {hour:02}" for n, hour in enumerate(hours)))
    ordered = log.in_time_order()
    assert ordered.user.strings().tolist() == ["u1", "u4", "u3", "u0", "u2", "u5"]
    assert ordered.line.tolist() == [3, 6, 5, 2, 4, 7]
    assert (np.diff(ordered.time_ms) >= 0).all()
    assert ordered.fingerprint == log.fingerprint


@given(
    rows=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30),
    years=st.sampled_from([1, 90_000_000]),
)
def test_rows_by_user_are_in_time_order_and_ties_in_file_order(
    rows: list[tuple[int, int]], years: int
) -> None:
    codes, times = np.array(rows).T
    users = Column(codes.astype(np.int32), np.array(list("abcd"), dtype=object))
    length = len(rows)
    log = BehaviourLog(
        path="log.csv", fingerprint="", precision_ms=1, user=users, item=users, category=users,
        geohash=users, behaviour=np.ones(length, np.uint8), time_ms=times * (years * 31_536_000_000),
        line=np.arange(length) + 2,
    )  # fmt: skip
    expected = sorted(range(length), key=lambda row: (rows[row], row))
    assert log.by_user().tolist() == expected
    backwards = log.select(np.arange(length)[::-1])
    assert backwards.line[backwards.by_user()].tolist() == log.line[expected].tolist()
    assert log.select(np.zeros(length, dtype=bool)).by_user().tolist() == []


def test_select_keeps_rows_together(tmp_path: Path) -> None:
    log = read(tmp_path, *(f"u{n},i{n},{n},g{n},c{n},2014-11-18 0{n}" for n in (1, 2, 3, 4)))
    chosen = log.select(np.array([3, 1]))
    assert [chosen.user.strings().tolist(), chosen.item.strings().tolist()] == [["u4", "u2"], ["i4", "i2"]]
    assert [chosen.geohash.strings().tolist(), chosen.category.strings().tolist()] == [
        ["g4", "g2"],
        ["c4", "c2"],
    ]
    assert [chosen.behaviour.tolist(), chosen.line.tolist()] == [[4, 2], [5, 3]]
    assert len(log.select(log.behaviour == 1)) == 1


def test_columns_may_come_in_another_order_with_others_between(tmp_path: Path) -> None:
    header = "time,extra,item_category,user_geohash,behavior_type,item_id,user_id"
    log = read(tmp_path, "2014-11-18 09,?,c1,,2,i1,u1", header=header)
    assert (log.user.values[0], log.item.values[0], log.category.values[0]) == ("u1", "i1", "c1")


def test_windows_line_ends_and_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes(b"\xef\xbb\xbf" + f"{HEADER}\r\n{ROW}\r\n".encode())
    log = read_behaviour_log(path)
    assert (log.user.values.tolist(), log.line.tolist(), log.precision_ms) == (["u1"], [2], HOUR_MS)


def test_lines_are_counted_past_blank_ones(tmp_path: Path) -> None:
    log = read(tmp_path, ROW, "", "", ROW, "")
    assert log.line.tolist() == [2, 5]


def test_a_last_line_without_an_end_is_read(tmp_path: Path) -> None:
    log = read_behaviour_log(write(tmp_path, ROW, ROW, end=""))
    assert log.line.tolist() == [2, 3]


def test_fingerprint_tells_contents_apart_and_not_paths(tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    log, copy = read(tmp_path, ROW), read(tmp_path / "copy", ROW)
    assert log.fingerprint == copy.fingerprint
    assert log.fingerprint != read(tmp_path, ROW, ROW).fingerprint


def test_other_names_are_read_through_a_format(tmp_path: Path) -> None:
    log_format = LogFormat(
        user="member", item="sku", behaviour="type", behaviours={"pv": Behaviour.VIEW, "buy": Behaviour.BUY}
    )
    path = write(
        tmp_path, "u,i,buy,,c,2014-11-18 09", header="member,sku,type,user_geohash,item_category,time"
    )
    assert read_behaviour_log(path, log_format).behaviour.tolist() == [Behaviour.BUY]


BAD_ROWS = {
    "time": ("u,i,1,,c,2014-13-18 09", "time is '2014-13-18 09'"),
    "date alone": ("u,i,1,,c,2014-11-18", "time is '2014-11-18'"),
    "time zone": ("u,i,1,,c,2014-11-18 09 CET", "time is '2014-11-18 09 CET'"),
    "30 February": ("u,i,1,,c,2014-02-30 09", "time is '2014-02-30 09'"),
    "hour 25": ("u,i,1,,c,2014-11-18 25", "time is '2014-11-18 25'"),
    "empty time": ("u,i,1,,c,", "time is ''"),
    "behaviour 9": ("u,i,9,,c,2014-11-18 09", "behavior_type is '9'; it must be one of 1 (view)"),
    "empty behaviour": ("u,i,,,c,2014-11-18 09", "behavior_type is ''"),
    "user": (",i,1,,c,2014-11-18 09", "user_id is empty"),
    "item": ("u,,1,,c,2014-11-18 09", "item_id is empty"),
    "short row": ("u,i,1,,c", "5 fields where the header has 6: 'u,i,1,,c'"),
    "long row": ("u,i,1,,c,2014-11-18 09,x", "7 fields where the header has 6"),
}


@pytest.mark.parametrize(("row", "message"), BAD_ROWS.values(), ids=BAD_ROWS.keys())
def test_a_bad_row_is_named_by_line_and_value(tmp_path: Path, row: str, message: str) -> None:
    with pytest.raises(DataError) as caught:
        read(tmp_path, ROW, "", ROW, row, ROW)
    assert f"log.csv:5: {message}" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("row", "message"), BAD_ROWS.values(), ids=BAD_ROWS.keys())
def test_a_few_bad_rows_are_left_out_and_counted(
    tmp_path: Path, row: str, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path, ROW, row, "", "u2,i2,2,,c2,2014-11-18 10", row)
    log = read_behaviour_log(path, LogFormat(bad_share=0.5))
    assert log.user.strings().tolist() == ["u1", "u2"]
    assert log.time_ms.tolist() == [NINE_O_CLOCK_MS, NINE_O_CLOCK_MS + HOUR_MS]
    assert (log.line.tolist(), log.bad_rows, log.precision_ms) == ([2, 5], 2, HOUR_MS)
    assert f"2 of 4 rows are bad and left out: line 3: {message}" in caplog.text
    assert "; line 6: " in caplog.text
    with pytest.raises(DataError, match=r"log\.csv:3: .*2 of 4 rows are bad; up to 49\.00% would be"):
        read_behaviour_log(path, LogFormat(bad_share=0.49))


def test_as_few_bad_rows_as_a_message_names_are_left_out_of_a_small_log_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bad = ["u,i,9,,c,2014-11-18 09"] * 3
    assert len(read(tmp_path, *[ROW] * 297, *bad)) == 297
    assert "3 of 300 rows are bad and left out: line 299: " in caplog.text
    assert all(f"line {line}: " in caplog.text for line in (300, 301))
    with pytest.raises(DataError, match="4 of 401 rows are bad"):
        read(tmp_path, *[ROW] * 397, *bad, bad[0])
    with pytest.raises(DataError, match="1 of 1,000 rows are bad"):
        read_behaviour_log(write(tmp_path, *[ROW] * 999, bad[0]), LogFormat(bad_share=0))


def test_text_of_another_encoding_is_named_by_line(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes(f"{HEADER}\n{ROW}\n".encode() + "jürgen,i,1,,c,2014-11-18 09\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"log\.csv:3: user_id is not UTF-8 text: b'j\\xfcrgen"):
        read_behaviour_log(path)


def test_a_wrong_header_says_what_is_missing_and_what_was_found(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="lacks behavior_type, time; found 'user_id,item_id,type"):
        read(tmp_path, header="user_id,item_id,type,user_geohash,item_category,date")


def test_a_column_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="user_id more than once"):
        read(tmp_path, ROW + ",u2", header=HEADER + ",user_id")


@pytest.mark.parametrize("end", ["", "\n", "\n\n"])
def test_a_header_without_rows_is_refused(tmp_path: Path, end: str) -> None:
    with pytest.raises(DataError, match="a header but no rows"):
        read_behaviour_log(write(tmp_path, end=end))


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "log.csv").touch()
    with pytest.raises(DataError, match=r"log\.csv: the file is empty"):
        read_behaviour_log(tmp_path / "log.csv")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_behaviour_log(tmp_path / "none.csv")


def test_a_binary_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_bytes(bytes(range(255, 0, -1)) * 10)
    with pytest.raises(DataError, match="not UTF-8"):
        read_behaviour_log(tmp_path / "log.csv")
