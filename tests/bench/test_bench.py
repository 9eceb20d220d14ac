"""The benchmarks: the windows they expect are right, a wrong one is found, each runs in its short form."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import click
import msgspec
import pytest
import redis

from bench import decode, encode, freshness, ingest, live_items, page, rank, recovery, serve
from bench import replay as replay_bench
from bench.harness import changelogs
from bench.harness.behaviour import distinct, expected_windows, make_log
from bench.harness.stage import Stage
from bench.harness.watch import Sample, Watch
from bench.peers import eager
from bench.peers.job import LIMITS, fold_event, window_from_msgpack, window_to_msgpack
from bench.peers.kafka_streams import kafka_streams_command
from bench.peers.quix_environment import quix_python
from models.encoder import Vectors
from models.errors import SettingsError, TwintideError, UnreachableError
from models.log.behaviour_log import BehaviourLog
from models.windows.window import Window
from replay.source import MessageSource
from stream.kafka.connection import KafkaConnection
from stream.store.connection import RedisConnection

RESULT = {"events", "seconds", "events_per_second", "cpu_seconds", "peak_mb"}


def folded(log: BehaviourLog) -> dict[str, bytes]:
    """Return the windows that a peer keeps after these events."""
    windows: dict[str, bytes] = {}
    for key, value, _ in MessageSource(log).messages(slice(0, len(log))):
        windows[key.decode()] = fold_event(windows.get(key.decode()), msgspec.json.decode(value))
    return windows


@pytest.fixture(scope="module")
def log() -> BehaviourLog:
    """Give a log in which every rule of a window matters."""
    return make_log(events=20_000, users=200)


def check(log: BehaviourLog, windows: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """Check these windows as those of a contestant."""
    records = [(user_id.encode(), value) for user_id, value in windows.items()]
    monkeypatch.setattr(changelogs, "_changelog", lambda here, name: iter(records))
    changelogs.check_windows(cast(Stage, None), "faust", log)


def test_log_has_late_and_repeated_events_and_a_heavy_tail(log: BehaviourLog) -> None:
    assert len(set(log.line.tolist())) < len(log)
    assert (log.time_ms[1:] < log.time_ms[:-1]).any()
    assert log.time_ms.max() - log.time_ms.min() > LIMITS.horizon_ms
    windows = expected_windows(log, LIMITS)
    assert len(windows) == 200
    assert max(map(len, windows.values())) == LIMITS.max_events > min(map(len, windows.values()))


def test_folding_events_one_by_one_leads_to_the_expected_windows(
    log: BehaviourLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    check(log, folded(log), monkeypatch)


def test_a_wrong_window_is_found(log: BehaviourLog, monkeypatch: pytest.MonkeyPatch) -> None:
    windows = folded(log)
    user_id = next(iter(windows))
    window = window_from_msgpack(windows[user_id])
    window.item_ids[0] = "another"
    with pytest.raises(TwintideError, match=f"user {user_id} is wrong: .*item_ids differs"):
        check(log, windows | {user_id: window_to_msgpack(window)}, monkeypatch)


def test_a_missing_and_a_strange_window_are_found(log: BehaviourLog, monkeypatch: pytest.MonkeyPatch) -> None:
    windows = folded(log)
    with pytest.raises(TwintideError, match="of nobody, 'stranger' first"):
        check(log, windows | {"stranger": window_to_msgpack(Window())}, monkeypatch)
    del windows[next(iter(windows))]
    with pytest.raises(TwintideError, match="0 events stored"):
        check(log, windows, monkeypatch)


def test_cpu_time_is_that_between_two_samples() -> None:
    watch = Watch()
    watch._samples = [Sample(1.0, 5.0, 10), Sample(2.0, 6.0, 3_000_000), Sample(3.0, 8.0, 20)]
    assert watch.cpu_seconds(1.5, 3.5) == 3.0
    assert watch.cpu_seconds(0.0, 2.0) == 1.0
    assert watch.peak_mb() == 3.0


@pytest.mark.parametrize("arguments", [["--peers", "flink"], ["--peer-events", "faust"], ["--events", "0"]])
def test_what_makes_no_sense_is_refused(arguments: list[str]) -> None:
    with pytest.raises(Exception) as refused:
        ingest.main(arguments, standalone_mode=False)
    assert isinstance(refused.value.__cause__, SettingsError)


@pytest.fixture
def _servers(
    kafka: KafkaConnection, redis_connection: RedisConnection, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Have servers that the environment names, as `./run bench` does."""
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap_servers)
    monkeypatch.setenv("REDIS_URL", redis_connection.url)
    yield


def report(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    assert list(found) == ["machine", "settings", "results", "ratios"]
    assert found["machine"]["cores"] >= 1
    return found


@pytest.mark.integration
@pytest.mark.usefixtures("_servers")
def test_ingest_reports_the_promised_figures(tmp_path: Path) -> None:
    path = tmp_path / "ingest.json"
    contestants = ["faust", "twintide", "twintide-no-encode", "twintide-2"]
    ingest.main(["--smoke", "--peers", ",".join(contestants), "--json", str(path)], standalone_mode=False)
    found = report(path)
    assert list(found["results"]) == contestants
    assert all(set(result) == RESULT for result in found["results"].values())
    assert all(value > 0 for result in found["results"].values() for value in result.values())
    assert found["results"]["twintide"]["events"] == found["settings"]["events"] == 20_000
    speeds = {name: result["events_per_second"] for name, result in found["results"].items()}
    assert found["ratios"]["twintide/faust"] == pytest.approx(speeds["twintide"] / speeds["faust"])
    assert found["ratios"]["twintide-2/twintide"] == pytest.approx(speeds["twintide-2"] / speeds["twintide"])


@pytest.mark.integration
@pytest.mark.usefixtures("_servers")
def test_quix_streams_does_the_same_job(tmp_path: Path) -> None:
    try:
        quix_python()
    except TwintideError as error:
        pytest.skip(str(error))
    path = tmp_path / "quix.json"
    ingest.main(["--smoke", "--peers", "quix", "--json", str(path)], standalone_mode=False)
    assert report(path)["results"]["quix"]["events"] == 20_000


@pytest.mark.integration
@pytest.mark.usefixtures("_servers")
def test_kafka_streams_does_the_same_job(tmp_path: Path) -> None:
    try:
        kafka_streams_command()
    except UnreachableError as error:
        pytest.skip(str(error))
    path = tmp_path / "streams.json"
    contestants = ["kafka-streams", "kafka-streams-warm"]
    ingest.main(["--smoke", "--peers", ",".join(contestants), "--json", str(path)], standalone_mode=False)
    assert list(report(path)["results"]) == contestants


@pytest.mark.integration
@pytest.mark.usefixtures("_servers")
def test_replay_reports_the_promised_figures(tmp_path: Path) -> None:
    path = tmp_path / "replay.json"
    replay_bench.main(["--smoke", "--json", str(path)], standalone_mode=False)
    found = report(path)
    results = found["results"]
    assert results["producer"]["events"] == results["replay"]["events"] == found["settings"]["events"]
    ratio = results["replay"]["events_per_second"] / results["producer"]["events_per_second"]
    assert found["ratios"]["replay/producer"] == pytest.approx(ratio)
    assert set(found["ratios"]) == {"replay/producer", "replay/producer-by-place"}
    assert 0 < results["100x"]["late_p50_ms"] <= results["100x"]["late_p99_ms"]
    assert 0.5 < results["100x"]["pace"] <= 1


@pytest.mark.integration
@pytest.mark.usefixtures("_servers")
def test_recovery_reports_the_promised_figures(tmp_path: Path) -> None:
    path = tmp_path / "recovery.json"
    recovery.main(["--smoke", "--json", str(path)], standalone_mode=False)
    found = report(path)
    results = found["results"]
    assert results["faust"]["records"] == results["twintide"]["records"] == found["settings"]["users"]
    ratio = results["twintide"]["records_per_second"] / results["faust"]["records_per_second"]
    assert found["ratios"] == {"twintide/faust": pytest.approx(ratio)}


def test_decode_reports_that_all_encodings_give_the_same(tmp_path: Path) -> None:
    path = tmp_path / "decode.json"
    decode.main(["--smoke", "--json", str(path)], standalone_mode=False)
    found = report(path)
    rate = {name: each["events/s"] for name, each in found["results"].items()}
    assert found["ratios"]["protobuf/json"] == pytest.approx(rate["protobuf"] / rate["json"])
    assert rate.keys() == {"json", "json-format", "avro", "protobuf"}


def test_encode_reports_the_promised_figures(tmp_path: Path) -> None:
    path = tmp_path / "encode.json"
    encode.main(["--smoke", "--json", str(path)], standalone_mode=False)
    found = report(path)
    results = found["results"]
    ratio = results["twintide"]["users_per_second"] / results["eager"]["users_per_second"]
    assert found["ratios"]["twintide/eager"] == pytest.approx(ratio)
    assert 0 < results["twintide"]["max_difference"] <= encode.FLOAT32_TOLERANCE


def test_encode_fails_where_vectors_are_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    right = eager.EagerTowers.__call__

    def wrong(self: eager.EagerTowers, values: list[bytes]) -> Vectors:
        found = right(self, values)
        return Vectors(found.user + 1e-3, found.long, found.short)

    monkeypatch.setattr(eager.EagerTowers, "__call__", wrong)
    with pytest.raises(
        TwintideError, match=r"twintide makes other vectors than eager: they differ by 1\.0e-03"
    ):
        encode.run(users=50, threads=1)


@pytest.mark.integration
@pytest.mark.usefixtures("_servers")
def test_freshness_reports_the_promised_figures(tmp_path: Path) -> None:
    path = tmp_path / "freshness.json"
    freshness.main(["--smoke", "--json", str(path)], standalone_mode=False)
    (result,) = report(path)["results"].values()
    assert result["sent"] == result["readable"] == 600
    assert 0 < result["p50_ms"] <= result["p99_ms"]


@pytest.mark.integration
@pytest.mark.usefixtures("_servers")
def test_page_reports_its_answers_and_the_worker_with_and_without_a_looker(tmp_path: Path) -> None:
    path = tmp_path / "page.json"
    page.main(["--smoke", "--json", str(path)], standalone_mode=False)
    results = report(path)["results"]
    answers = {f"/explain/api/{asked}" for asked in ("live", "user", "items")}
    assert results.keys() == {"nobody looks", "one looks", "cost"} | answers
    assert all(0 < each["p50_ms"] <= each["p99_ms"] for name, each in results.items() if name != "cost")
    assert results["cost"]["pairs"] == 2 and results["cost"]["standard_error"] >= 0


@pytest.mark.integration
@pytest.mark.usefixtures("_servers")
def test_live_items_reports_how_fast_a_learner_is_and_how_soon_a_new_item_is_ranked(tmp_path: Path) -> None:
    path = tmp_path / "live-items.json"
    live_items.main(["--smoke", "--json", str(path)], standalone_mode=False)
    results = json.loads(path.read_text())["results"]
    assert results["learning alone"]["events_per_second"] > 0
    assert results["whole process"]["cpu_us_per_event"] > 0
    ranked = results["event to ranked item"]
    assert ranked["new_items"] >= 8
    assert 0 < ranked["p50_ms"] <= ranked["p99_ms"]


def test_freshness_sends_only_events_that_change_their_users_vector() -> None:
    sent = distinct(make_log(events=5_000, users=50))
    assert len(sent) == len(set(sent.line.tolist())) < 5_000
    assert (sent.time_ms[1:] >= sent.time_ms[:-1]).all()


@pytest.mark.integration
@pytest.mark.usefixtures("_servers")
def test_serve_reports_the_promised_figures(tmp_path: Path, redis_client: redis.Redis) -> None:
    path = tmp_path / "serve.json"
    serve.main(["--smoke", "--json", str(path)], standalone_mode=False)
    found = report(path)
    results = found["results"]
    formats = ["float32", "float16", "int8"]
    assert list(results) == ["upsert", "hset", "read-1", "read-100", "exact", "ann", *formats]
    ratio = results["upsert"]["users_per_second"] / results["hset"]["users_per_second"]
    assert found["ratios"] == {"upsert/hset": pytest.approx(ratio)}
    assert all(0 < results[name]["p50_ms"] <= results[name]["p99_ms"] for name in ("read-1", "read-100"))
    assert results["exact"]["recall"] == 1.0 >= results["ann"]["recall"] > 0.5
    assert [results[name]["bytes_per_vector"] for name in formats] == [512, 256, 132]
    assert 1.0 >= results["float16"]["same_of_best"] >= results["int8"]["same_of_best"] > 0.9
    assert not redis_client.keys("*bench*")


@pytest.mark.integration
def test_rank_reports_the_promised_figures(
    tmp_path: Path,
    redis_client: redis.Redis,
    redis_connection: RedisConnection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REDIS_URL", redis_connection.url)
    path = tmp_path / "rank.json"
    rank.main(["--smoke", "--scorers", "dot,din", "--json", str(path)], standalone_mode=False)
    results = report(path)["results"]
    assert list(results) == ["dot", "dot-http", "din", "din-http"]
    assert all(
        0 < each["p50_ms"] <= each["p99_ms"] and each["last_to_first"] > 0 for each in results.values()
    )
    assert results["din-http"]["calls_per_second"] > 0
    assert not redis_client.keys("*bench*")
    with pytest.raises(click.ClickException, match="--scorers has knn; there are dot, din, dsin, dien"):
        rank.main(["--scorers", "din,knn"], standalone_mode=False)
