"""Rekeying real topics, by librdkafka's C interface and without: outages, gaps, dead letters, losses."""

import dataclasses
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from click.testing import CliRunner
from confluent_kafka import Producer, TopicPartition

from local.kafka import KafkaServer
from local.servers import ROOT
from local.worker import worker_environment
from stream import rekey
from stream.events.incoming import FORGET_HEADER
from stream.kafka.connection import KafkaConnection
from stream.kafka.topic_reader import read_all
from stream.kafka.topics import (
    add_partitions,
    admin_client,
    delete_topic,
    ensure_topic,
    partition_counts,
)
from stream.rekeying import run
from stream.rekeying.sender import DEAD_LETTER_BYTES
from stream.settings import Settings

pytestmark = pytest.mark.integration

START_MS, PARTITIONS = 1_417_000_000_000, 2
HEADERS: list[tuple[str, bytes | None]] = [("sent_at", b"5"), ("größe", None), ("sent_at", b"6")]


@pytest.fixture
def clicks(settings: Settings) -> str:
    """Give an empty topic that is not the workers'."""
    name = f"{settings.topic}-clicks"
    ensure_topic(settings.kafka, name, PARTITIONS)
    return name


def event(number: int, **fields: Any) -> bytes:
    about = {"user_id": f"u{number % 7}", "item_id": "商", "behavior_type": 1, "time": START_MS + number}
    return json.dumps(about | fields).encode()


def send(settings: Settings, topic: str, first: int, end: int) -> None:
    """Publish events number `first` to `end`, keyed by session, every other one without an id."""
    producer = Producer({**settings.kafka.librdkafka(), "acks": "all", "enable.idempotence": True})
    for number in range(first, end):
        value = event(number, **{"event_id": f"e{number}"} if number % 2 else {})
        producer.produce(topic, value, b"session", number % PARTITIONS, headers=HEADERS)
    assert producer.flush(60) == 0


def times(settings: Settings) -> list[int]:
    """Return the times of the events that were sent on, from the first on, each event once."""
    found = [json.loads(record.value() or b"") for record in read_all(settings.kafka, settings.topic)]
    by_id = {each["event_id"]: each["time"] - START_MS for each in found}
    assert len(set(by_id.values())) == len(by_id)
    return sorted(by_id.values())


def rekeyed(settings: Settings, topic: str) -> str:
    words = ["--topic", topic, "--to", settings.topic]
    done = CliRunner().invoke(rekey.main, words, env=worker_environment(settings))
    assert done.exit_code == 0, done.output
    return done.stdout


def test_follower_outlives_a_broker_that_is_down(
    settings: Settings,
    clicks: str,
    kafka_server: KafkaServer,
    rekey_command: Sequence[str],
    until: Callable[..., None],
) -> None:
    ours = dataclasses.replace(settings, kafka=KafkaConnection(kafka_server.bootstrap_servers))
    ensure_topic(ours.kafka, clicks, PARTITIONS)
    send(ours, clicks, 0, 100)
    words = ["--topic", clicks, "--to", ours.topic, "--follow"]
    process = subprocess.Popen(
        [sys.executable, *rekey_command, *words],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), **worker_environment(ours)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        until(lambda: times(ours) == [*range(100)])
        kafka_server.kill()
        time.sleep(2)
        kafka_server.start()
        send(ours, clicks, 100, 200)
        until(lambda: times(ours) == [*range(200)])
        process.terminate()
        said, log = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 0 and said.startswith("rekeyed: events="), log
    assert "events=0 skipped=0 dead_letters=0 lost=0 " in rekeyed(ours, clicks)


@pytest.mark.usefixtures("rekey_command")
def test_records_keep_their_headers_and_what_is_no_event_goes_where_it_belongs(
    settings: Settings, clicks: str
) -> None:
    producer = Producer({**settings.kafka.librdkafka(), "acks": "all"})
    huge = b"x" * (DEAD_LETTER_BYTES + 7)
    for value, key, headers in (
        (event(0), b"session", HEADERS),
        (None, b"u1", [(FORGET_HEADER, b"1")]),
        (huge, b"k", HEADERS),
        (event(1, time=START_MS // 1000, event_id="e"), b"session", []),
        (event(2, event_id="e2", user_geohash={"at": 5}), None, []),
    ):
        producer.produce(clicks, value, key, 1, headers=headers)
    assert producer.flush(60) == 0
    assert "events=3 skipped=0 dead_letters=2 lost=0 " in rekeyed(settings, clicks)
    found = {record.key(): record for record in read_all(settings.kafka, settings.topic)}
    assert found[b"u0"].headers() == HEADERS and found[b"u0"].timestamp()[1] == START_MS
    assert found[b"u1"].value() is None and found[b"u1"].headers() == [(FORGET_HEADER, b"1")]
    assert json.loads(found[b"u2"].value() or b"")["user_geohash"] == "{'at': 5}"
    letters = {
        dict(record.headers() or ())["reason"]: record
        for record in read_all(settings.kafka, settings.dead_letter_topic)
    }
    assert {*letters} == {b"unreadable", b"seconds"}
    cut = letters[b"unreadable"]
    assert (cut.key(), cut.value()) == (b"k", huge[:DEAD_LETTER_BYTES])
    about = {"topic": clicks, "partition": "1", "offset": "2", "size": str(len(huge))}
    assert about.items() <= {name: value.decode() for name, value in cut.headers() or ()}.items()


@pytest.mark.usefixtures("rekey_command")
def test_gaps_of_transactions_and_what_retention_took_are_told_apart(settings: Settings, clicks: str) -> None:
    producer = Producer({**settings.kafka.librdkafka(), "transactional.id": clicks})
    producer.init_transactions(30)
    for number in range(3):
        producer.begin_transaction()
        producer.produce(clicks, event(number, event_id=f"e{number}"), b"session", 0)
        producer.flush(30)
        producer.abort_transaction(30) if number == 1 else producer.commit_transaction(30)
    assert "events=2 skipped=0 dead_letters=0 lost=0 " in rekeyed(settings, clicks)
    assert "events=0 skipped=0 dead_letters=0 lost=0 " in rekeyed(settings, clicks)
    send(settings, clicks, 10, 20)
    client = admin_client(settings.kafka)  # kept until the answer is here
    for future in client.delete_records([TopicPartition(clicks, 1, 2)]).values():
        future.result(30)
    assert "events=8 skipped=0 dead_letters=0 lost=2 " in rekeyed(settings, clicks)
    assert times(settings) == [0, 2, 10, 12, 14, 15, 16, 17, 18, 19]


@pytest.fixture
def following(
    settings: Settings, clicks: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], None]]:
    """Give a follower that asks often what its topic is; a call starts it."""
    monkeypatch.setattr(run, "POLL_TOPIC_EVERY_S", 0.2)
    stop = threading.Event()

    def follow() -> None:
        run.rekey(settings, clicks, None, follow=True, is_stopping=stop.is_set)

    thread = threading.Thread(target=follow)
    yield thread.start
    stop.set()
    thread.join(60)
    assert not thread.is_alive()


def test_follower_reads_partitions_that_its_topic_gets(
    settings: Settings, clicks: str, following: Callable[[], None], until: Callable[..., None]
) -> None:
    send(settings, clicks, 0, 20)
    following()
    until(lambda: times(settings) == [*range(20)])
    add_partitions(settings.kafka, clicks, PARTITIONS + 1)
    producer = Producer({**settings.kafka.librdkafka(), "acks": "all"})
    for number in range(20, 30):
        producer.produce(clicks, event(number), b"session", PARTITIONS)
    assert producer.flush(60) == 0
    until(lambda: times(settings) == [*range(30)])
    send(settings, clicks, 30, 40)
    until(lambda: times(settings) == [*range(40)])


def test_follower_gives_events_of_a_topic_that_is_made_again_ids_of_their_own(
    settings: Settings, clicks: str, following: Callable[[], None], until: Callable[..., None]
) -> None:
    send(settings, clicks, 0, 20)
    following()
    until(lambda: times(settings) == [*range(20)])
    delete_topic(settings.kafka, clicks)
    until(lambda: clicks not in partition_counts(settings.kafka))
    ensure_topic(settings.kafka, clicks, PARTITIONS)
    time.sleep(2)  # until the follower has noticed
    send(settings, clicks, 20, 40)
    until(lambda: times(settings) == [*range(40)])
