"""The archive of a real topic: each event once, whatever is killed, deleted or made again."""

import dataclasses
import json
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.dataset
import pytest
from click.testing import CliRunner, Result
from confluent_kafka import Producer, TopicPartition

from local.kafka import KafkaServer
from local.servers import ROOT
from local.worker import worker_environment
from models.log.behaviour_log import read_behaviour_log
from offline import archive
from offline.archiving import run
from stream.events.incoming import FORGET_HEADER
from stream.kafka.connection import KafkaConnection
from stream.kafka.topic_reader import read_between
from stream.kafka.topics import admin_client, ensure_topic, partition_counts
from stream.settings import Settings

pytestmark = pytest.mark.integration

DAY_MS = 86_400_000
FIRST_DAY_MS = 16_400 * DAY_MS
PARTITIONS = 3

Rows = list[dict[str, Any]]


@pytest.fixture
def topic(settings: Settings) -> str:
    """Give a topic that is empty."""
    ensure_topic(settings.kafka, settings.topic, PARTITIONS)
    return settings.topic


def send(settings: Settings, first: int, end: int, days: int = 5) -> None:
    """Publish events number `first` to `end`: of three partitions and some days in turn."""
    producer = Producer({**settings.kafka.librdkafka(), "acks": "all", "enable.idempotence": True})
    for number in range(first, end):
        event = {
            "event_id": f"e{number}",
            "user_id": f"u{number % 50}",
            "item_id": f"i{number % 7}",
            "behavior_type": 1 + number % 4,
            "user_geohash": None if number % 2 else "9q8",
            "item_category": "c",
            "time": FIRST_DAY_MS + number % days * DAY_MS + number,
        }
        place = number % PARTITIONS
        producer.produce(settings.topic, json.dumps(event), event["user_id"], partition=place)
    assert producer.flush(30) == 0


def send_raw(settings: Settings, key: str, value: bytes | None, headers: Any = None) -> None:
    producer = Producer({**settings.kafka.librdkafka(), "acks": "all"})
    producer.produce(settings.topic, value, key, partition=0, headers=headers)
    assert producer.flush(30) == 0


def invoke(settings: Settings, out: Path, *options: object) -> Result:
    words = ["--out", str(out), *map(str, options)]
    return CliRunner().invoke(archive.main, words, env=worker_environment(settings))


def archived(settings: Settings, out: Path, *options: object) -> str:
    """Return the last line of a call that does its work."""
    done = invoke(settings, out, *options)
    assert done.exit_code == 0, done.output
    return done.stdout.splitlines()[-1]


def child(settings: Settings, out: Path, *options: object) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "offline.archive", "--out", str(out), *map(str, options)],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), **worker_environment(settings)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def read(out: Path) -> Rows:
    found: Rows = pyarrow.dataset.dataset(out, partitioning="hive").to_table().to_pylist()
    return found


def numbers(out: Path) -> list[int]:
    """Return the numbers of the events in an archive, each as often as it is there."""
    return sorted(int(row["event_id"][1:]) for row in read(out))


def fails(settings: Settings, out: Path, *options: object) -> str:
    """Return the one line with which a call fails."""
    done = invoke(settings, out, *options)
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("Error:")]
    assert (done.exit_code, "Traceback" in done.output) == (1, False)
    return line


def test_each_call_continues_where_the_last_one_ended(settings: Settings, topic: str, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "archive"
    assert archived(settings, out) == (
        "archived: rows=0 rejected=0 forgets=0 lost=0 continues_at=0:0,1:0,2:0"
    )
    send(settings, 0, 300)
    send_raw(settings, "u1", b"no json")
    send_raw(settings, "u1", None, [(FORGET_HEADER, b"1")])
    assert archived(settings, out, "--portion-events", 70) == (
        "archived: rows=300 rejected=1 forgets=1 lost=0 continues_at=0:102,1:100,2:100 unreadable=1"
    )
    send(settings, 300, 400)  # late: of the same days
    assert archived(settings, out).startswith("archived: rows=100 rejected=0 forgets=0 lost=0 ")
    assert archived(settings, out).startswith("archived: rows=0 ")
    rows = read(out)
    assert numbers(out) == [*range(400)]
    assert {str(row["day"]) for row in rows} == {f"2014-11-{day}" for day in range(26, 31)}
    for row in rows:
        number = int(row["event_id"][1:])
        assert row["time"].timestamp() * 1000 == FIRST_DAY_MS + number % 5 * DAY_MS + number
        assert (row["user_id"], row["item_id"]) == (f"u{number % 50}", f"i{number % 7}")
        assert (row["behavior_type"], row["partition"]) == (1 + number % 4, number % PARTITIONS)
        assert row["user_geohash"] == (None if number % 2 else "9q8")
        assert f"{row['time']:%Y-%m-%d}" == str(row["day"])
    assert len({(row["partition"], row["offset"]) for row in rows}) == 400


def test_archive_is_a_log_for_training_as_it_is(settings: Settings, topic: str, tmp_path: Path) -> None:
    send(settings, 0, 60)
    archived(settings, tmp_path, "--portion-events", 20)
    log = read_behaviour_log(tmp_path)
    events = {(f"u{n % 50}", f"i{n % 7}", 1 + n % 4, FIRST_DAY_MS + n % 5 * DAY_MS + n) for n in range(60)}
    columns = (log.item.strings(), log.behaviour.tolist(), log.time_ms.tolist())
    assert set(zip(log.user.strings(), *columns, strict=True)) == events
    assert (len(log), log.bad_rows) == (60, 0)


def test_killed_at_any_moment_it_neither_loses_nor_doubles_a_row(
    settings: Settings, topic: str, tmp_path: Path
) -> None:
    events, chance = 1_000, random.Random(4)
    send(settings, 0, events)
    out, kills, held = tmp_path / "archive", 0, 0
    while held < events and kills < 8:
        process = child(settings, out, "--portion-events", 50)
        progress = out / "_progress.json"
        while process.poll() is None and (not progress.exists() or rows_noted(progress) == held):
            time.sleep(0.001)
        time.sleep(chance.random() * 0.5)  # some portions further, anywhere within one
        process.kill()
        process.communicate()
        kills += process.returncode == -9
        held = rows_noted(progress)
        assert held >= len(set(numbers(out))) == len(numbers(out))
    assert kills >= 3
    archived(settings, out)  # what is left, where a slow machine has come no further
    assert archived(settings, out).startswith("archived: rows=0 ")
    assert numbers(out) == [*range(events)]
    assert not [*out.glob("_pending-*")]


def rows_noted(progress: Path) -> int:
    return int(json.loads(progress.read_bytes())["rows"])


def test_follower_brings_what_comes_and_ends_in_peace(
    settings: Settings, topic: str, tmp_path: Path, until: Callable[..., None]
) -> None:
    out = tmp_path / "archive"
    send(settings, 0, 100)
    process = child(settings, out, "--follow", "--every-s", 0.5)
    try:
        until(lambda: out.exists() and [*out.glob("day=*")] and len(numbers(out)) == 100)
        send(settings, 100, 250)
        until(lambda: len(numbers(out)) == 250)
        assert "another process is archiving into it" in fails(settings, out)
        process.terminate()
        said, log = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 0, log
    assert said == "archived: rows=250 rejected=0 forgets=0 lost=0 continues_at=0:84,1:83,2:83\n"
    assert numbers(out) == [*range(250)]


def test_follower_outlives_a_broker_that_is_down(
    settings: Settings, tmp_path: Path, kafka_server: KafkaServer, until: Callable[..., None]
) -> None:
    ours = dataclasses.replace(settings, kafka=KafkaConnection(kafka_server.bootstrap_servers))
    ensure_topic(ours.kafka, ours.topic, PARTITIONS)
    send(ours, 0, 100)
    out = tmp_path / "archive"
    process = child(ours, out, "--follow", "--every-s", 0.5)
    try:
        until(lambda: out.exists() and [*out.glob("day=*")] and len(numbers(out)) == 100)
        kafka_server.kill()
        time.sleep(2)
        kafka_server.start()
        send(ours, 100, 200)
        until(lambda: len(numbers(out)) == 200, timeout_s=120)
        process.terminate()
        _, log = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 0, log
    assert numbers(out) == [*range(200)]


def test_what_retention_took_is_counted(settings: Settings, topic: str, tmp_path: Path) -> None:
    out = tmp_path / "archive"
    send(settings, 0, 30)
    delete_before(settings, 2)  # before the archive was begun: not the archive's to have
    assert "rows=24 rejected=0 forgets=0 lost=0 " in archived(settings, out)
    send(settings, 30, 90)
    delete_before(settings, 15)
    done = invoke(settings, out)
    assert done.stdout.startswith("archived: rows=45 rejected=0 forgets=0 lost=15 "), done.output
    send(settings, 90, 93)
    delete_before(settings, 31)
    assert archived(settings, out).startswith("archived: rows=0 rejected=0 forgets=0 lost=3 ")
    assert archived(settings, out).startswith("archived: rows=0 rejected=0 forgets=0 lost=0 ")
    assert len(numbers(out)) == len(set(numbers(out))) == 24 + 45


def delete_before(settings: Settings, offset: int) -> None:
    places = [TopicPartition(settings.topic, partition, offset) for partition in range(PARTITIONS)]
    client = admin_client(settings.kafka)  # kept until the answer is here
    for future in client.delete_records(places).values():
        future.result(30)


def test_what_retention_takes_while_it_is_read_is_counted(
    settings: Settings, topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def after_retention(*arguments: Any) -> Any:
        delete_before(settings, 4)
        return read_between(*arguments)

    send(settings, 0, 30)
    monkeypatch.setattr(run, "read_between", after_retention)
    assert archived(settings, tmp_path).startswith("archived: rows=18 rejected=0 forgets=0 lost=12 ")


def test_gaps_of_transactions_are_no_loss(settings: Settings, topic: str, tmp_path: Path) -> None:
    producer = Producer({**settings.kafka.librdkafka(), "transactional.id": topic})
    producer.init_transactions(30)
    event = {"user_id": "u", "item_id": "i", "behavior_type": 1, "time": FIRST_DAY_MS}
    for _ in range(3):
        producer.begin_transaction()
        producer.produce(topic, json.dumps(event), "u", partition=0)
        producer.commit_transaction(30)
    assert archived(settings, tmp_path) == (
        "archived: rows=3 rejected=0 forgets=0 lost=0 continues_at=0:6,1:0,2:0"
    )


def test_topic_that_is_made_again_is_noticed(
    settings: Settings,
    topic: str,
    tmp_path: Path,
    until: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    send(settings, 0, 30)
    archived(settings, tmp_path)
    make_again(settings, until)
    send(settings, 30, 90)  # more than the one before had
    said = archived(settings, tmp_path)
    assert said == "archived: rows=60 rejected=0 forgets=0 lost=0 continues_at=0:20,1:20,2:20"
    assert f"topic {topic} was deleted and made again" in caplog.text
    assert "what the one before had behind offsets 0:10,1:10,2:10 is gone" in caplog.text
    assert numbers(tmp_path) == [*range(90)]


def make_again(settings: Settings, until: Callable[..., None]) -> None:
    client = admin_client(settings.kafka)  # kept until the answer is here
    client.delete_topics([settings.topic])[settings.topic].result(30)
    until(lambda: settings.topic not in partition_counts(settings.kafka))
    ensure_topic(settings.kafka, settings.topic, PARTITIONS)
    until(lambda: partition_counts(settings.kafka).get(settings.topic) == PARTITIONS)


def test_topic_that_is_made_again_while_it_is_read_gets_no_wrong_row_in(
    settings: Settings,
    topic: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    until: Callable[..., None],
) -> None:
    def after_another(*arguments: Any) -> Any:
        monkeypatch.setattr(run, "read_between", read_between)
        make_again(settings, until)
        send(settings, 100, 190)
        return read_between(*arguments)

    send(settings, 0, 30)
    monkeypatch.setattr(run, "read_between", after_another)
    line = fails(settings, tmp_path)
    assert line.startswith(
        f"Error: topic {topic} was deleted and made again while it was read: what came since"
    )
    assert not [*tmp_path.glob("day=*")]
    archived(settings, tmp_path)
    assert numbers(tmp_path) == [*range(100, 190)]


def test_what_is_missing_is_one_line(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    servers = settings.kafka.bootstrap_servers
    assert fails(settings, tmp_path) == (
        f"Error: there is no topic {settings.topic} at {servers}: set TWINTIDE_TOPIC"
    )
    monkeypatch.setattr("stream.kafka.topics.TIMEOUT_S", 1.0)
    nowhere = {**worker_environment(settings), "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}
    done = CliRunner().invoke(archive.main, ["--out", str(tmp_path)], env=nowhere)
    assert (done.exit_code, done.stderr.startswith("Error: no Kafka at 127.0.0.1:1 (")) == (1, True)
    (tmp_path / "file").write_text("")
    assert "file/archive: the archive cannot be written" in fails(settings, tmp_path / "file" / "archive")
