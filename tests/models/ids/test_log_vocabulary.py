"""The vocabulary of a log: its order, and what it takes to find it."""

import tracemalloc
from pathlib import Path

from models.ids.log_vocabulary import vocabulary_of_log
from models.log.behaviour_log import read_behaviour_log

HEADER = "user_id,item_id,behavior_type,user_geohash,item_category,time\n"


def test_the_most_frequent_come_first_and_equal_ones_by_their_code_points(tmp_path: Path) -> None:
    items = ["b", "é", "a", "𝄞", "Z", "10", "9", "\uffee", "b", "a", "é", "é"]
    (tmp_path / "log.csv").write_text(HEADER + "".join(f"u,{item},1,,c,2014-11-18 09\n" for item in items))
    log = read_behaviour_log(tmp_path / "log.csv")
    assert vocabulary_of_log(log).item_ids == ["é", "a", "b", "10", "9", "Z", "\uffee", "𝄞"]
    assert vocabulary_of_log(log, 2).item_ids == ["é", "a", "b"]
    assert vocabulary_of_log(log, max_items=2).item_ids == ["é", "a"]


def test_one_long_id_does_not_make_all_others_as_long(tmp_path: Path) -> None:
    items = [f"item {number}" for number in range(2_000)] + ["x" * 50_000]
    (tmp_path / "log.csv").write_text(HEADER + "".join(f"u,{item},1,,c,2014-11-18 09\n" for item in items))
    log = read_behaviour_log(tmp_path / "log.csv")
    vocabulary_of_log(log, max_items=1)  # compiles
    tracemalloc.start()
    assert len(vocabulary_of_log(log).item_ids) == 2_001
    assert tracemalloc.get_traced_memory()[1] < 16 << 20  # as long as the longest they would take 400 MB
    tracemalloc.stop()
