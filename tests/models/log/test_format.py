"""Other logs: no header, epoch seconds, words for behaviours, ids that are float text."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from models.errors import DataError, SettingsError
from models.events import Behaviour
from models.log.behaviour_log import BehaviourLog, read_behaviour_log
from models.log.format import FORMATS, LogFormat, read_log_format

TAOBAO_ROWS = "1,22,333,pv,1511544070\n1,23,333,buy,1511544071\n"
JDATA_ROWS = (
    "user_id,sku_id,time,model_id,type,cate,brand\n"
    "266079.0,138778,2016-01-31 23:59:02,,1,8,403\n"
    "266079.0,138778,2016-01-31 23:59:03,0,3,8,403\n"
    "266079,138779,2016-01-31 23:59:04,0,4,8,403\n"
)
FLAT = (
    'user = "who"\nitem = "what"\ntime = "when"\nbehaviour = ""\ngeohash = ""\ncategory = ""\n'
    'time_unit = "milliseconds"\nheader = ["when", "who", "what"]\n'
)
SHOP_FIELDS: list[Any] = [
    (
        "payload",
        pa.struct(
            {
                "shop": pa.string(),
                "user": pa.struct({"id": pa.string()}),
                "item": pa.string(),
                "at": pa.int64(),
            }
        ),
    ),
    ("action", pa.string()),
    ("device", pa.string()),
]


def read(folder: Path, content: str, log_format: LogFormat) -> BehaviourLog:
    (folder / "log.csv").write_text(content)
    return read_behaviour_log(folder / "log.csv", log_format)


def test_taobao_has_no_header_and_epoch_seconds(tmp_path: Path) -> None:
    log = read(tmp_path, TAOBAO_ROWS, FORMATS["taobao"])
    assert log.time_ms.tolist() == [1_511_544_070_000, 1_511_544_071_000]
    assert log.behaviour.tolist() == [Behaviour.VIEW, Behaviour.BUY]
    assert (log.item.strings().tolist(), log.category.strings().tolist()) == (["22", "23"], ["333", "333"])
    assert log.geohash.strings().tolist() == ["", ""]
    assert log.line.tolist() == [1, 2]


def test_jdata_leaves_out_the_uncart_and_reads_float_ids_as_whole(tmp_path: Path) -> None:
    log = read(tmp_path, JDATA_ROWS, FORMATS["jdata"])
    assert log.user.strings().tolist() == ["266079", "266079"]
    assert len(set(log.user.codes.tolist())) == 1
    assert log.behaviour.tolist() == [Behaviour.VIEW, Behaviour.BUY]
    assert log.line.tolist() == [2, 4]


def test_toml_file_names_everything(tmp_path: Path) -> None:
    (tmp_path / "shop.toml").write_text(FLAT)
    log = read(tmp_path, "5,a,b\n\n7,a,c\n", read_log_format(str(tmp_path / "shop.toml")))
    assert (log.time_ms.tolist(), log.behaviour.tolist(), log.line.tolist()) == ([5, 7], [1, 1], [1, 3])
    assert log.category.values.tolist() == [""]
    assert log.precision_ms == 1


NESTED = """
user = ["{payload.shop}:{payload.user.id}", "device:{device}"]
item = "payload.item"
behaviour = ["action", { constant = "look" }]
category = { constant = 7 }
geohash = ""
time = "payload.at"
[behaviours]
look = "view"
take = "buy"
move = "skip"
"""


@pytest.mark.parametrize("kind", ["csv", "parquet", "flat.parquet"])
def test_format_of_events_reads_a_log(tmp_path: Path, kind: str) -> None:
    (tmp_path / "shop.toml").write_text(NESTED)
    rows = [
        {"payload": {"shop": "s", "user": {"id": "1"}, "item": "i", "at": 1_511_544_070}, "action": "take"},
        {"payload": {"shop": "s", "user": None, "item": "i", "at": 1_511_544_071}, "device": "d"},
        {"payload": {"shop": "s", "user": {"id": "2"}, "item": "j", "at": 1_511_544_072}, "action": "move"},
    ]
    table = pa.Table.from_pylist(rows, pa.schema(SHOP_FIELDS))
    if kind != "parquet":
        table = table.flatten().flatten().flatten()
    if kind == "csv":
        pyarrow.csv.write_csv(table, tmp_path / "log")
    else:
        pyarrow.parquet.write_table(table, tmp_path / "log")
    log = read_behaviour_log(tmp_path / "log", read_log_format(str(tmp_path / "shop.toml")))
    assert log.user.strings().tolist() == ["s:1", "device:d"]
    assert log.behaviour.tolist() == [Behaviour.BUY, Behaviour.VIEW]
    assert log.category.strings().tolist() == ["7", "7"]
    assert (log.time_ms // 1000).tolist() == [1_511_544_070, 1_511_544_071]


def test_row_whose_parts_make_no_user_is_named(tmp_path: Path) -> None:
    (tmp_path / "shop.toml").write_text(FLAT.replace('user = "who"', 'user = "{who}@{what}"'))
    with pytest.raises(DataError, match=r"log\.csv:2: \{who\}@\{what\} is empty"):
        read(tmp_path, "5,a,b\n7,,c\n", read_log_format(str(tmp_path / "shop.toml")))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("1,22,333,pv,yesterday\n", r"log\.csv:1: time is 'yesterday'"),
        ("1,22,333,pv,5\n\n1,22,333,look,5\n", r"log\.csv:3: behavior_type is 'look'"),
        ("1,22,333,pv\n", r"log\.csv:1: 4 fields where the header has 5"),
        ("1,22,333,pv,5\n,22,333,pv,5\n", r"log\.csv:2: user_id is empty"),
    ],
)
def test_bad_row_without_header_is_named_by_its_line(tmp_path: Path, content: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        read(tmp_path, content, FORMATS["taobao"])


def test_log_whose_rows_are_all_left_out_is_refused(tmp_path: Path) -> None:
    rows = JDATA_ROWS.splitlines()
    with pytest.raises(DataError, match="no rows"):
        read(tmp_path, f"{rows[0]}\n{rows[2]}\n", FORMATS["jdata"])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no such format"),
        ("= =", "not TOML"),
        ('colour = "red"', "no key 'colour'"),
        ('time_unit = "weeks"', "weeks"),
        ('user = ""', "user is empty"),
        ('header = ["user_id"]', "lacks item_id"),
        ('[behaviours]\nlook = "stare"', "look = 'stare'"),
        ("behaviours = 3", "behaviours"),
        ("[behaviours]\nlook = []", r"look = \[\]"),
        ("user = 3", "user"),
        ('user = "a..b"', "user: 'a..b' is no path"),
        ('user = "{a"', "user: '{a' is no template"),
        ('user = "{a!r}"', "a path alone"),
        ('item = { constant = "x", path = "y" }', "path"),
        ('time = "{day} {hour}"', "it must be one column or path"),
        ('time = "user_id"', "as is another column"),
        ('each = "a..b"', "each: 'a..b' is no path"),
        ('each = "{a}:{b}"', "it must be one path"),
        ('each = "items"\nencoding = "avro"', "each is of JSON alone"),
        ('behaviour = { constant = "look" }', "'look', which behaviours does not have"),
    ],
)
def test_format_that_makes_no_sense_is_refused(tmp_path: Path, content: str | None, words: str) -> None:
    path = tmp_path / "shop.toml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SettingsError, match=words):
        read_log_format(str(path))
