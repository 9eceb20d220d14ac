"""The whole command against a real broker."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby

import pytest
from aiokafka.partitioner import murmur2
from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, TopicPartition

from models.errors import UnreachableError
from models.log.behaviour_log import BehaviourLog, read_behaviour_log
from models.log.event_ids import EventIds
from offline.synthetic.behaviour import SampleSettings
from offline.synthetic.file import write_sample
from replay.publisher import PublisherSettings, ReplayProducer
from stream.kafka.connection import KafkaConnection
from stream.kafka.topics import admin_client, ensure_topic

pytestmark = pytest.mark.integration

PARTITIONS = 3


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> BehaviourLog:
    path = tmp_path_factory.mktemp("replay") / "behaviour.csv"
    write_sample(SampleSettings(users=40, rows=3_000), path, to_second=False)
    with path.open("a", encoding="utf-8") as file:
        file.write('"12#3, ""用户""",i/\\1,4,,c,2014-12-01 10\n')
    return read_behaviour_log(path)


@pytest.fixture
def topic(kafka: KafkaConnection) -> Iterator[str]:
    name = f"replay-test-{uuid.uuid4().hex}"
    yield name
    for deletion in admin_client(kafka).delete_topics([name]).values():
        deletion.exception(timeout=10)


def start(kafka: KafkaConnection, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "replay", "--partitions", str(PARTITIONS), *arguments],
        env={**os.environ, "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(kafka: KafkaConnection, *arguments: str) -> tuple[int, str, str]:
    process = start(kafka, *arguments)
    output, errors = process.communicate(timeout=60)
    return process.returncode, output, errors


@contextmanager
def consumer_of(kafka: KafkaConnection, topic: str) -> Iterator[Consumer]:
    """Give a consumer of the whole topic, from its beginning."""
    consumer = Consumer({**kafka.librdkafka(), "group.id": "none", "enable.auto.commit": False})
    try:
        consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in range(PARTITIONS)])
        yield consumer
    finally:
        consumer.close()


def read_all(kafka: KafkaConnection, topic: str) -> list[Message]:
    """Return every record of a topic that nobody writes to any more, by partition and offset."""
    records: list[Message] = []
    deadline_s = time.monotonic() + 30
    with consumer_of(kafka, topic) as consumer:
        places = consumer.assignment()
        count = sum(consumer.get_watermark_offsets(place, timeout=10)[1] for place in places)
        while len(records) < count and time.monotonic() < deadline_s:
            records += consumer.consume(10_000, timeout=0.2)
    assert len(records) == count
    return sorted(records, key=lambda record: (record.partition(), record.offset()))


def test_every_row_arrives_once_as_it_should(kafka: KafkaConnection, topic: str, log: BehaviourLog) -> None:
    before_ms = time.time() * 1_000
    code, output, errors = run(kafka, "--data-path", str(log.path), "--topic", topic, "--speed", "max")
    after_ms = time.time() * 1_000
    assert (code, errors) == (0, "")
    assert re.fullmatch(r"published=3001 seconds=[\d.]+ events_per_second=\d+ speed=[\d.]+x\n", output)

    records = read_all(kafka, topic)
    row_of = {event_id: row for row, event_id in enumerate(EventIds(log).of(slice(None)))}
    users, items = log.user.strings(), log.item.strings()
    geohashes, categories = log.geohash.strings(), log.category.strings()
    seen = set()
    for record in records:
        value = json.loads(record.value())
        row = row_of[value["event_id"]]
        assert list(value.items()) == [
            ("event_id", value["event_id"]),
            ("user_id", users[row]),
            ("item_id", items[row]),
            ("behavior_type", log.behaviour[row]),
            ("user_geohash", geohashes[row]),
            ("item_category", categories[row]),
            ("time", log.time_ms[row]),
        ]
        assert record.key() == users[row].encode()
        assert record.partition() == (murmur2(record.key()) & 0x7FFFFFFF) % PARTITIONS
        assert record.timestamp() == (1, log.time_ms[row])  # 1: CreateTime
        [(name, sent_at)] = record.headers()
        assert name == "sent_at"
        assert before_ms - 1 <= int(sent_at) <= after_ms
        seen.add(row)
    assert len(records) == len(seen) == len(log)


def test_offsets_of_a_user_follow_time_and_then_the_file(
    kafka: KafkaConnection, topic: str, log: BehaviourLog
) -> None:
    run(kafka, "--data-path", str(log.path), "--topic", topic, "--speed", "max")
    records = [(record.key(), json.loads(record.value())) for record in read_all(kafka, topic)]
    row_of = {event_id: row for row, event_id in enumerate(EventIds(log).of(slice(None)))}
    rows_of_user = {
        user: [(value["time"], row_of[value["event_id"]]) for _, value in rows]
        for user, rows in groupby(sorted(records, key=lambda record: record[0]), key=lambda record: record[0])
    }
    assert len(rows_of_user) == 41
    assert all(rows == sorted(rows) for rows in rows_of_user.values())


def test_pace_and_bounds_are_kept(kafka: KafkaConnection, topic: str, log: BehaviourLog) -> None:
    code, output, _ = run(
        kafka, "--data-path", str(log.path), "--topic", topic, "--speed", "20000x",
        "--from", "2014-12-12", "--until", "2014-12-12 12",
    )  # fmt: skip
    assert code == 0
    figures = dict(pair.split("=") for pair in output.split())
    first_ms = 1_418_342_400_000
    inside = (log.time_ms >= first_ms) & (log.time_ms < first_ms + 12 * 3_600_000)
    assert int(figures["published"]) == inside.sum() > 20
    assert float(figures["speed"].removesuffix("x")) == pytest.approx(20_000, rel=0.05)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_replay_in_good_order(
    kafka: KafkaConnection, topic: str, log: BehaviourLog, number: signal.Signals
) -> None:
    ensure_topic(kafka, topic, PARTITIONS)
    with start(kafka, "--data-path", str(log.path), "--topic", topic, "--speed", "5000x") as process:
        try:
            with consumer_of(kafka, topic) as consumer:
                assert consumer.consume(1, timeout=30)
            process.send_signal(number)
            output, errors = process.communicate(timeout=30)
        finally:
            process.kill()
    published = int(output.split()[0].removeprefix("published="))
    assert (process.returncode, len(read_all(kafka, topic))) == (128 + number, published)
    assert f"stopped by a signal after {published} of 3001 events" in errors


def test_events_that_do_not_arrive_are_an_error() -> None:
    nobody = KafkaConnection("127.0.0.1:1")
    publisher = ReplayProducer(nobody, PublisherSettings(delivery_timeout_s=0.3, linger_ms=1))
    publisher.send([(b"u", b"{}", 0), (b"u", b"{}", 1)])
    with pytest.raises(UnreachableError, match="2 of 2 events did not reach topic user-behavior"):
        publisher.finish()


def test_a_full_queue_makes_the_sender_wait_and_loses_nothing(kafka: KafkaConnection, topic: str) -> None:
    ensure_topic(kafka, topic, PARTITIONS)
    publisher = ReplayProducer(kafka, PublisherSettings(topic=topic, queue_messages=10))
    publisher.send([(b"u", b"%d" % number, number) for number in range(500)])
    publisher.finish()
    assert [int(record.value()) for record in read_all(kafka, topic)] == list(range(500))


def test_a_record_too_large_is_an_error_and_not_skipped(kafka: KafkaConnection, topic: str) -> None:
    ensure_topic(kafka, topic, PARTITIONS)
    publisher = ReplayProducer(kafka, PublisherSettings(topic=topic))
    with pytest.raises(UnreachableError, match="too large"):
        publisher.send([(b"u", b"x" * 2_000_000, 0)])
