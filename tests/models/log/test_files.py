"""A log may be a file, a folder, a glob, or several of them; its path may hold columns."""

import logging
import os
from pathlib import Path

import pytest

from models.errors import DataError
from models.events import Behaviour
from models.log.behaviour_log import BehaviourLog, read_behaviour_log
from models.log.files import find_files, name_of
from models.log.format import LogFormat

HEADER = "user_id,item_id,behavior_type,user_geohash,item_category,time\n"


def write(path: Path, *users: str, header: str = HEADER) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(header + "".join(f"{user},i,1,,c,2014-11-18 09\n" for user in users))
    return path


def users(log: BehaviourLog) -> list[str]:
    return [str(user) for user in log.user.strings()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "log/b.csv", "b1", "b2")
    write(tmp_path / "log/a.csv", "a1")
    write(tmp_path / "log/more/c.csv", "c1")
    for hidden in ("_SUCCESS", ".a.csv.crc", "_temporary/d.csv", ".git/e.csv"):
        write(tmp_path / "log" / hidden, "hidden")
    return tmp_path / "log"


def test_folder_is_read_by_name_without_what_engines_keep_in_it(folder: Path) -> None:
    log = read_behaviour_log(folder)
    assert users(log) == ["a1", "b1", "b2", "c1"]
    assert log.path == str(folder)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.csv", ["a1", "b1", "b2"]),
        ("[b-z].csv", ["b1", "b2"]),
        ("?.csv", ["a1", "b1", "b2"]),
        ("**/*.csv", ["a1", "b1", "b2", "c1"]),
        ("m*", ["c1"]),
    ],
)
def test_glob_is_read(folder: Path, pattern: str, expected: list[str]) -> None:
    assert users(read_behaviour_log(folder / pattern)) == expected
    url = f"file://{folder}/{pattern}"
    if "?" not in pattern:  # in a URL, options of the store begin there
        assert users(read_behaviour_log(url)) == expected


def test_name_that_looks_like_a_glob_is_a_name(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", "a")
    assert users(read_behaviour_log(write(tmp_path / "[a].csv", "bracket"))) == ["bracket"]


def test_several_are_read_in_the_order_given_and_each_file_once(folder: Path) -> None:
    log = read_behaviour_log([folder / "more", folder / "b.csv", folder])
    assert users(log) == ["c1", "b1", "b2", "a1"]
    assert log.path == f"{folder}/more, {folder}/b.csv, {folder}"
    assert log.line.tolist() == [2, 4, 5, 7]
    assert [log.places.name(line) for line in (2, 5, 7)] == [
        f"{folder}/more/c.csv:2",
        f"{folder}/b.csv:3",
        f"{folder}/a.csv:2",
    ]


def test_bad_rows_of_all_files_are_counted_together_and_named_by_file(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(folder / "z.csv", "z", "", *["z"] * 500, "")
    with (folder / "b.csv").open("a") as file:
        file.write("short,row\n")
    log = read_behaviour_log(folder)
    assert (log.bad_rows, len(log)) == (3, 505)
    assert f"{folder}/b.csv:4: 2 fields where the header has 6: 'short,row'" in caplog.text
    assert f"{folder}/z.csv:3: user_id is empty" in caplog.text
    assert f"{folder}/z.csv:504: user_id is empty" in caplog.text


def test_folder_with_two_schemas_is_refused_in_one_line(folder: Path) -> None:
    write(folder / "x.csv", "x", header="user,item,behavior_type,user_geohash,item_category,time\n")
    with pytest.raises(
        DataError, match=r"x\.csv: it lacks user_id, item_id; found 'user,item,.* \(one of 4 f"
    ):
        read_behaviour_log(folder)


def test_empty_file_beside_others_is_a_part_without_rows(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "part-0.csv").touch()
    write(folder / "part-1.csv")
    assert users(read_behaviour_log(folder)) == ["a1", "b1", "b2", "c1"]
    assert "1 files are empty, such as" in caplog.text
    with pytest.raises(DataError, match="a header but no rows"):
        read_behaviour_log([folder / "part-0.csv", folder / "part-1.csv"])


@pytest.mark.parametrize("kind", ["folder", "glob", "fifo", "unreadable"])
def test_path_without_a_log_is_refused_in_one_line(tmp_path: Path, kind: str) -> None:
    path = {"folder": tmp_path / "empty", "glob": tmp_path / "*.csv"}.get(kind, tmp_path / "thing")
    (tmp_path / "empty").mkdir()
    if kind == "fifo":
        os.mkfifo(path)
    if kind == "unreadable":
        path.symlink_to(path)
    expected = {"fifo": "neither a file nor a folder", "unreadable": "no such file"}
    with pytest.raises(DataError, match=expected.get(kind, "no file of a log is there")) as caught:
        read_behaviour_log(path)
    assert "\n" not in str(caught.value)


def test_empty_path_is_refused_and_not_taken_for_where_one_stands() -> None:
    with pytest.raises(DataError, match="the path of the log is empty"):
        read_behaviour_log("")


def test_columns_may_stand_in_the_path(tmp_path: Path) -> None:
    header = "user_id,item_id,time\n"
    for behaviour, category in (("view", "a b"), ("buy", "__HIVE_DEFAULT_PARTITION__"), ("view", "x%2Fy")):
        path = tmp_path / f"hive/behaviour={behaviour}/section={category}/part.csv"
        path.parent.mkdir(parents=True)
        path.write_text(f"{header}{category[0]},i,2014-11-18 09\n{category[0]},j,2014-11-18 10\n")
    log_format = LogFormat(
        behaviour="behaviour",
        category="section",
        geohash="",
        behaviours={"view": Behaviour.VIEW, "buy": Behaviour.BUY},
    )
    log = read_behaviour_log(tmp_path / "hive", log_format)
    assert log.behaviour.tolist() == [4, 4, 1, 1, 1, 1]
    assert log.category.strings().tolist() == ["", "", "a b", "a b", "x/y", "x/y"]
    with pytest.raises(DataError, match="it lacks user_geohash"):
        read_behaviour_log(tmp_path / "hive", LogFormat(behaviour="behaviour", category="section"))


def test_time_may_stand_in_the_path(tmp_path: Path) -> None:
    path = tmp_path / "time=2014-11-18T09%3A30%3A00Z/log.csv"
    path.parent.mkdir()
    path.write_text("user_id,item_id,behavior_type,user_geohash,item_category\nu,i,1,,c\nu,j,1,,c\n")
    assert read_behaviour_log(tmp_path).time_ms.tolist() == [1_416_303_000_000] * 2


def test_secrets_in_a_url_are_shown_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for url in ("s3://key:hid%zzden@bucket/log?secret_key=hidden", "xyz://key:hidden@bucket/log?a=hidden"):
        assert name_of(url) == f"{url[:3].strip(':')}://bucket/log".replace("s3:://", "s3://")
        with pytest.raises(DataError) as caught:
            find_files(url)
        assert not any(part in str(caught.value) + caplog.text for part in ("hid", "den"))
