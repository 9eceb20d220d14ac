"""Baselines on a log whose counts are known."""

from pathlib import Path

import numpy as np

from models.ids.log_vocabulary import vocabulary_of_log
from models.log.behaviour_log import read_behaviour_log
from models.windows.window import WindowSettings
from offline.baselines.counting import baselines
from offline.ranking.protocols import cases_leave_one_out


def test_popularity_counts_rows_and_markov_counts_steps(tmp_path: Path) -> None:
    rows = [("u", "a"), ("u", "b"), ("v", "a"), ("v", "b"), ("w", "a"), ("w", "c"), ("w", "a"), ("w", "x")]
    lines = ["user_id,item_id,behavior_type,user_geohash,item_category,time"]
    lines += [f"{user},{item},1,,c,2024-01-01 {hour:02}" for hour, (user, item) in enumerate(rows)]
    lines += ["u,z,1,,c,2024-01-02 00", "v,z,1,,c,2024-01-02 00"]
    (tmp_path / "log.csv").write_text("\n".join(lines) + "\n")
    log = read_behaviour_log(tmp_path / "log.csv")
    vocabulary = vocabulary_of_log(log)
    cases = cases_leave_one_out(log, vocabulary, WindowSettings())
    scorers = baselines(cases, vocabulary, 60_000)
    place = {item: vocabulary.item_ids.index(item) for item in "abcxz"}
    everyone = np.arange(3)
    popular = scorers["popularity"](everyone)
    assert popular.shape == (3, 5)
    assert np.ceil(popular[0, [place[item] for item in "abcxz"]]).tolist() == [4, 2, 1, 0, 0]
    user = cases.user_ids.index("w")
    steps = scorers["markov"](np.array([user]))[0]
    assert np.round(steps[[place[item] for item in "abcxz"]]).tolist() == [0, 2, 1, 0, 0]
    recent = scorers["recent popularity"](everyone)[0]
    assert recent.argmax() == place["a"]
