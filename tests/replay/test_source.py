import json
from datetime import datetime
from pathlib import Path

import msgspec
import numpy as np
import pytest

from models.errors import DataError
from models.events import Event
from models.log.behaviour_log import BehaviourLog, read_behaviour_log
from models.log.event_ids import EventIds
from replay.source import MessageSource, choose_rows

HEADER = "user_id,item_id,behavior_type,user_geohash,item_category,time\n"
ROWS = """\
b,i1,1,,c1,2014-11-18 11
"quote "" comma ,",\\back/slash,4,9qz,用,2014-11-18 10
007,i1,3,,c1,2014-11-18 10
"""
TEN_MS = 1_416_304_800_000


@pytest.fixture
def log(tmp_path: Path) -> BehaviourLog:
    path = tmp_path / "log.csv"
    path.write_text(HEADER + ROWS, encoding="utf-8")
    return read_behaviour_log(path)


def test_messages_hold_exactly_what_the_rows_do(log: BehaviourLog) -> None:
    ordered = choose_rows(log, None, None, None)
    messages = MessageSource(ordered).messages(slice(0, 3))
    assert [key.decode() for key, _, _ in messages] == ['quote " comma ,', "007", "b"]
    assert [time_ms for _, _, time_ms in messages] == [TEN_MS, TEN_MS, TEN_MS + 3_600_000]
    assert json.loads(messages[0][1]) == {
        "event_id": EventIds(log).of(np.array([1]))[0],
        "user_id": 'quote " comma ,',
        "item_id": "\\back/slash",
        "behavior_type": 4,
        "user_geohash": "9qz",
        "item_category": "用",
        "time": TEN_MS,
    }
    assert len({json.loads(value)["event_id"] for _, value, _ in messages}) == 3


def test_the_worker_reads_what_replay_writes(log: BehaviourLog) -> None:
    [(_, value, _)] = MessageSource(log).messages(slice(2, 3))
    event = msgspec.json.decode(value, type=Event)
    assert event == Event("007", "i1", 3, TEN_MS, "c1", "", EventIds(log).of(slice(2, 3))[0])


@pytest.mark.parametrize(
    ("first", "until", "limit", "lines"),
    [
        (None, None, None, [3, 4, 2]),
        (None, None, 2, [3, 4]),
        (datetime(2014, 11, 18, 10), datetime(2014, 11, 18, 11), None, [3, 4]),
        (datetime(2014, 11, 18, 10, 0, 1), None, None, [2]),
        (datetime(2014, 11, 18), datetime(2014, 11, 19), 1, [3]),
    ],
)
def test_rows_are_chosen_by_time_and_number(
    log: BehaviourLog, first: datetime | None, until: datetime | None, limit: int | None, lines: list[int]
) -> None:
    assert choose_rows(log, first, until, limit).line.tolist() == lines


def test_a_choice_without_rows_says_what_the_file_covers(log: BehaviourLog) -> None:
    with pytest.raises(DataError, match="covers 2014-11-18 10:00:00 to 2014-11-18 11:00:00"):
        choose_rows(log, datetime(2015, 1, 1), None, None)
