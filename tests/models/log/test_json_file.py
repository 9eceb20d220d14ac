"""A log of JSON objects, a line each: the rows that its events are, whatever else stands in the file."""

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from models.errors import DataError
from models.log import json_file
from models.log.behaviour_log import BehaviourLog, read_behaviour_log
from models.log.format import LogFormat
from models.log.parts import read_in_parts

FORMAT = LogFormat(
    user="{shop}:{user.id}", item="item", behaviour="", category=("section", "kind"), geohash="", time="at"
)
START_S = 1_400_000_000


def event(number: int, **fields: Any) -> dict[str, Any]:
    user = {"id": number % 7, "name": "ü"}
    return {"shop": "s", "user": user, "item": f"i{number}", "kind": 5, "at": START_S + number, **fields}


def write(path: Path, *lines: bytes | dict[str, Any], end: bytes = b"\n") -> Path:
    path.write_bytes(
        end.join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines)
    )
    return path


def rows(log: BehaviourLog) -> list[tuple[Any, ...]]:
    columns = (log.user.strings(), log.item.strings(), log.category.strings(), log.time_ms.tolist())
    return [*zip(*columns, log.line.tolist(), strict=True)]


def expected(*numbers: int, first_line: int = 1) -> list[tuple[Any, ...]]:
    return [
        (f"s:{number % 7}", f"i{number}", "5", (START_S + number) * 1000, first_line + place)
        for place, number in enumerate(numbers)
    ]


@pytest.mark.parametrize("block_bytes", [7, 300, 1 << 23])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_every_line_is_a_row(
    tmp_path: Path, end: bytes, block_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_file, "BLOCK_BYTES", block_bytes)
    path = write(tmp_path / "log", *map(event, range(40)), end=end)
    assert rows(read_behaviour_log(path, FORMAT)) == expected(*range(40))
    path.write_bytes(gzip.compress(b"\xef\xbb\xbf" + path.read_bytes() + end + end))
    assert rows(read_behaviour_log(path, FORMAT)) == expected(*range(40))


def test_a_line_of_other_types_changes_no_other(tmp_path: Path) -> None:
    odd = event(2, item=2.0, at=f"{START_S + 2}.5", more=[{"deep": 1}])
    path = write(tmp_path / "log", event(0), event(1), odd, event(3))
    found = rows(read_behaviour_log(path, FORMAT))
    assert found[:2] + found[3:] == expected(0, 1) + expected(3, first_line=4)
    assert found[2] == ("s:2", "2", "5", START_S * 1000 + 2500, 3)


def test_lines_that_are_no_events_are_named(tmp_path: Path) -> None:
    good = [event(number) for number in range(100)]
    path = write(tmp_path / "log", *good, b"", b"{", event(5, user=None))
    with pytest.raises(DataError, match=r"log:102: '\{' is no JSON object; .*\(2 of 102 rows are bad"):
        read_behaviour_log(path, FORMAT)
    lenient = LogFormat(**{name: getattr(FORMAT, name) for name in FORMAT.__slots__} | {"bad_share": 0.05})
    log = read_behaviour_log(path, lenient)
    assert (len(log), log.bad_rows, log.line[-1]) == (100, 2, 100)
    path = write(tmp_path / "log", event(5, user=None))
    with pytest.raises(DataError, match=r"log:1: \{shop\}:\{user\.id\} is empty"):
        read_behaviour_log(path, FORMAT)


def test_files_of_all_kinds_are_one_log_and_a_path_may_have_a_field(tmp_path: Path) -> None:
    for shop in ("s", "t"):
        (tmp_path / f"shop={shop}").mkdir()
        lines = [{name: value for name, value in event(n).items() if name != "shop"} for n in range(3)]
        write(tmp_path / f"shop={shop}" / "log.jsonl", *lines)
    (tmp_path / "shop=s" / "more.csv").write_text(f"user.id,item,section,kind,at\n9,i9,,5,{START_S}\n")
    found = read_behaviour_log(tmp_path, FORMAT)
    assert found.user.strings().tolist() == ["s:0", "s:1", "s:2", "s:9", "t:0", "t:1", "t:2"]


def test_each_element_of_a_list_is_a_row_of_its_line(tmp_path: Path) -> None:
    lines = [event(number, bought=[{"sku": f"i{number}"}, {"sku": "more"}]) for number in range(3)]
    path = write(tmp_path / "log", *lines, event(3, bought=[]), event(4, bought={"sku": "i4"}))
    log_format = replace(FORMAT, item="bought.sku", each="bought")
    found = rows(read_behaviour_log(path, log_format))
    more = [(user, "more", *others) for user, _, *others in expected(0, 1, 2)]
    assert found == sorted([*expected(0, 1, 2), *expected(4, first_line=5), *more], key=lambda row: row[-1])
    assert [row for part in read_in_parts(path, log_format) for row in rows(part)] == found
    (tmp_path / "log.csv").write_text("shop,user.id,bought.sku,section,kind,at\n")
    with pytest.raises(DataError, match="the format has each, which is of JSON alone"):
        read_behaviour_log(tmp_path / "log.csv", log_format)
