"""The ranking benchmark without SASRec itself, whose environment takes minutes to make."""

import csv
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench import ranking
from bench.peers import sasrec_run
from models.ids.log_vocabulary import vocabulary_of_log
from models.log.behaviour_log import read_behaviour_log
from models.windows.window import WindowSettings
from offline.ranking.metrics import MISSING
from offline.ranking.protocols import cases_leave_one_out
from offline.synthetic.behaviour import SampleSettings
from offline.synthetic.file import write_sample


@pytest.fixture(scope="module")
def sample_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sample") / "log.csv"
    write_sample(SampleSettings(users=30, rows=1_500), path, to_second=True)
    return path


@pytest.mark.parametrize("protocol", ["leave-one-out", "time"])
def test_report_holds_twintide_and_every_baseline(sample_csv: Path, tmp_path: Path, protocol: str) -> None:
    arguments = ["--data-path", sample_csv, "--seeds", 1, "--epochs", 1, "--sasrec-epochs", 0]
    arguments += ["--protocol", protocol]
    found = CliRunner().invoke(ranking.main, [*map(str, arguments), "--json", str(tmp_path / "r.json")])
    assert found.exit_code == 0, found.output
    report = json.loads((tmp_path / "r.json").read_text())
    assert {"twintide", "popularity", "markov", "item kNN", "session kNN"} <= set(report["results"])
    measures = {"ndcg@10", "recall@10", "behind", "+-"}
    measures |= {"train s"} | {f"{each} new" for each in measures}
    assert set(report["results"]["twintide"]) == measures
    ours, theirs = report["results"]["twintide"], report["results"]["markov"]
    assert theirs["behind"] == pytest.approx(ours["ndcg@10"] - theirs["ndcg@10"])
    assert ours["behind"] == ours["+-"] == 0 < theirs["+-"]
    assert report["ratios"]["twintide/markov"] == pytest.approx(
        report["results"]["twintide"]["ndcg@10"] / report["results"]["markov"]["ndcg@10"]
    )


def test_logs_of_repeats_are_asked_with_seen_items_alone(tmp_path: Path) -> None:
    rows = [
        f"u{user},{item},1,,c,2024-01-01 10:{minute:02}"
        for user in range(8)
        for minute, item in enumerate("abcabc" * 3)
    ]
    header = "user_id,item_id,behavior_type,user_geohash,item_category,time"
    (tmp_path / "log.csv").write_text("\n".join([header, *rows]) + "\n")
    arguments = ["--data-path", tmp_path / "log.csv", "--seeds", 1, "--epochs", 1, "--sasrec-epochs", 0]
    found = CliRunner().invoke(ranking.main, [*map(str, arguments), "--json", str(tmp_path / "r.json")])
    assert found.exit_code == 0, found.output
    report = json.loads((tmp_path / "r.json").read_text())
    assert set(report["results"]["markov"]) == {"ndcg@10", "recall@10", "behind", "+-", "train s"}
    assert report["results"]["markov"]["ndcg@10"] == 1


def test_peer_gets_the_histories_in_order_without_the_targets(sample_csv: Path, tmp_path: Path) -> None:
    log = read_behaviour_log(sample_csv)
    vocabulary = vocabulary_of_log(log)
    cases = cases_leave_one_out(log, vocabulary, WindowSettings())
    sasrec_run.write_histories(cases.known, tmp_path / "train.csv")
    with (tmp_path / "train.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(log) - len(set(log.user.strings()))
    ordered = log.select(log.by_user())
    users, items = ordered.user.strings().tolist(), ordered.item.strings().tolist()
    one = users[0]
    history = [item for user, item in zip(users, items, strict=True) if user == one]
    assert [row["item"] for row in rows if row["user"] == one] == history[:-1]
    places = [int(row["place"]) for row in rows]
    assert places == sorted(set(places))
    first, target = cases.user_ids[0], vocabulary.item_ids[cases.target[0]]
    ranks = ranking._ranks_of(cases, vocabulary.item_ids, {("True", first, target): 3}, "True")
    assert ranks.tolist() == [3] + [MISSING] * (len(cases.user_ids) - 1)
