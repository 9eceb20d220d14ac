import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.events import Event
from models.log.behaviour_log import BehaviourLog, Column, read_behaviour_log
from models.log.event_ids import EventIds
from replay.disturbances import HOT_USER
from replay.source import MessageSource

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
    return read_behaviour_log(path).in_time_order()


def test_messages_hold_exactly_what_the_rows_do(log: BehaviourLog) -> None:
    messages = MessageSource(log).messages(slice(0, 3))
    assert [key.decode() for key, _, _ in messages] == ['quote " comma ,', "007", "b"]
    assert [time_ms for _, _, time_ms in messages] == [TEN_MS, TEN_MS, TEN_MS + 3_600_000]
    assert list(json.loads(messages[0][1]).items()) == [
        ("event_id", EventIds(log).of(np.array([0]))[0]),
        ("user_id", 'quote " comma ,'),
        ("item_id", "\\back/slash"),
        ("behavior_type", 4),
        ("user_geohash", "9qz"),
        ("item_category", "用"),
        ("time", TEN_MS),
    ]


def test_the_worker_reads_what_replay_writes(log: BehaviourLog) -> None:
    [(_, value, _)] = MessageSource(log).messages(slice(1, 2))
    event = msgspec.json.decode(value, type=Event)
    assert event == Event("007", "i1", 3, TEN_MS, "c1", "", EventIds(log).of(slice(1, 2))[0])


def test_a_lap_makes_other_events_of_the_same_rows_and_a_hot_user_takes_rows(log: BehaviourLog) -> None:
    rows = np.array([2, 0])
    keys, values = MessageSource(log).records(rows, np.array([7, 8]), 3, np.array([True, False]))
    events = [json.loads(value) for value in values]
    assert keys == [HOT_USER.encode(), b'quote " comma ,']
    assert [event["user_id"] for event in events] == [HOT_USER, 'quote " comma ,']
    assert [event["event_id"] for event in events] == [f"{each}.3" for each in EventIds(log).of(rows)]
    assert [event["time"] for event in events] == [7, 8]


TEXTS = st.lists(st.text(max_size=4), min_size=1, max_size=4, unique=True)


@given(texts=TEXTS, codes=st.lists(st.integers(0, 3), min_size=1, max_size=12), data=st.data())
def test_any_text_comes_out_as_it_was_and_equal_rows_have_ids_of_their_own(
    texts: list[str], codes: list[int], data: st.DataObject
) -> None:
    column = Column(np.array(codes, np.int32) % len(texts), np.array(texts, dtype=object))
    times = data.draw(st.lists(st.sampled_from([-1, 0, 10**15]), min_size=len(codes), max_size=len(codes)))
    count = len(codes)
    log = BehaviourLog(
        "made up", "", 1, column, column, column, column,
        np.ones(count, np.uint8), np.array(times, np.int64), np.arange(count),
    )  # fmt: skip
    messages = MessageSource(log).messages(slice(0, count))
    events = [json.loads(value) for _, value, _ in messages]
    strings = column.strings().tolist()
    for name in ("user_id", "item_id", "user_geohash", "item_category"):
        assert [event[name] for event in events] == strings
    assert [event["event_id"] for event in events] == EventIds(log).of(slice(None))
    assert len({event["event_id"] for event in events}) == count
    assert [event["time"] for event in events] == times == [time_ms for _, _, time_ms in messages]
