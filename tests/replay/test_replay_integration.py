"""The whole command against a real broker."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby

import numpy as np
import pytest
from aiokafka.partitioner import murmur2
from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, TopicPartition

from models.errors import SettingsError, UnreachableError
from models.log.behaviour_log import BehaviourLog, read_behaviour_log
from models.log.event_ids import EventIds
from offline.synthetic.behaviour import SampleSettings
from offline.synthetic.file import write_sample
from replay.publisher import PublisherSettings, ReplayProducer
from replay.records import Digest, Records
from stream.kafka.connection import KafkaConnection
from stream.kafka.topics import admin_client, end_offsets, ensure_topic

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
    admin = admin_client(kafka)  # held until it has answered: one that is gone answers nobody
    for deletion in admin.delete_topics([name]).values():
        deletion.exception(timeout=120)


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
    output, errors = process.communicate(timeout=120)
    return process.returncode, output, errors


@contextmanager
def consumer_of(kafka: KafkaConnection, topic: str, partitions: int = PARTITIONS) -> Iterator[Consumer]:
    """Give a consumer of the whole topic, from its beginning."""
    consumer = Consumer({**kafka.librdkafka(), "group.id": "none", "enable.auto.commit": False})
    try:
        consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in range(partitions)])
        yield consumer
    finally:
        consumer.close()


def read_all(kafka: KafkaConnection, topic: str, partitions: int = PARTITIONS) -> list[Message]:
    """Return every record of a topic that nobody writes to any more, by partition and offset."""
    records: list[Message] = []
    deadline_s = time.monotonic() + 120
    count = sum(end_offsets(kafka, topic).values())
    with consumer_of(kafka, topic, partitions) as consumer:
        while len(records) < count and time.monotonic() < deadline_s:
            records += consumer.consume(10_000, timeout=0.2)
    assert len(records) == count
    return sorted(records, key=lambda record: (record.partition(), record.offset()))


def test_every_row_arrives_once_as_it_should(kafka: KafkaConnection, topic: str, log: BehaviourLog) -> None:
    before_ms = time.time() * 1_000
    code, output, errors = run(kafka, "--data-path", str(log.path), "--topic", topic, "--speed", "max")
    after_ms = time.time() * 1_000
    assert (code, errors) == (0, "")
    assert json.loads(output)["acknowledged"] == 3001

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
        "--from", "2014-12-12", "--to", "2014-12-12 12",
    )  # fmt: skip
    report = json.loads(output)
    first_ms = 1_418_342_400_000
    inside = (log.time_ms >= first_ms) & (log.time_ms < first_ms + 12 * 3_600_000)
    assert report["acknowledged"] == report["records"] == inside.sum() > 20
    assert code == (report["pace"] < 0.99 and report["seconds"] > report["asked_seconds"] + 0.05)
    assert report["seconds"] >= 0.99 * report["asked_seconds"]
    assert report["pace"] == pytest.approx(report["asked_seconds"] / report["seconds"], rel=0.1)
    hours = (log.time_ms[inside].max() - log.time_ms[inside].min()) / 3_600_000
    assert hours * 3_600 / 20_000 <= report["asked_seconds"] < (hours + 1) * 3_600 / 20_000


def test_a_pace_that_cannot_be_kept_is_said_and_fails(
    kafka: KafkaConnection, topic: str, log: BehaviourLog
) -> None:
    code, output, errors = run(kafka, "--data-path", str(log.path), "--topic", topic, "--rate-limit", "1e6",
                               "--speed", "max", "--loop", "60")  # fmt: skip
    report = json.loads(output)
    assert report["acknowledged"] == 60 * 3001
    assert report["pace"] < 0.99
    assert code == 1
    assert "of the pace of max, at most 1,000,000/s was kept" in errors.splitlines()[-1]


DISTURBED = (
    "--duplicates", "5%", "--disorder", "10%", "--late", "1%", "--malformed", "3%", "--hot-user", "10%",
    "--spread", "uniform", "--seed", "3",
)  # fmt: skip


def test_a_dry_run_tells_the_digest_of_what_is_then_published(
    kafka: KafkaConnection, topic: str, log: BehaviourLog
) -> None:
    ensure_topic(kafka, topic, 1)  # so that there is one order
    arguments = ("--data-path", str(log.path), "--topic", topic, "--speed", "max", *DISTURBED)
    dry = json.loads(run(kafka, "--dry-run", *arguments)[1])
    wet = json.loads(run(kafka, *arguments)[1])
    assert dry == {name: wet[name] for name in dry}
    records = read_all(kafka, topic, partitions=1)
    digest = Digest()
    digest.add(
        Records(
            [record.key() for record in records],
            [record.value() for record in records],
            np.array([record.timestamp()[1] for record in records]),
            np.zeros(len(records)),
            np.zeros(len(records), np.uint8),
        )
    )
    assert str(digest) == wet["digest"]


def test_a_replay_that_was_killed_resumes_and_no_row_is_missing(
    kafka: KafkaConnection, topic: str, log: BehaviourLog
) -> None:
    arguments = ("--data-path", str(log.path), "--topic", topic, "--rate-limit", "400", "--speed", "max")
    whole = json.loads(run(kafka, "--dry-run", *arguments)[1])
    ensure_topic(kafka, topic, PARTITIONS)
    with start(kafka, *arguments) as process:
        while sum(end_offsets(kafka, topic).values()) < 1_000:
            time.sleep(0.05)
        process.kill()  # -9
    code, output, errors = run(kafka, *arguments, "--resume")
    report = json.loads(output)
    assert code in (0, 1)
    assert 0 < report["resumed_at"] < 3001
    assert report["resumed_at"] + report["acknowledged"] == 3001
    assert report["digest"] == whole["digest"]
    assert f"resuming behind {report['resumed_at']} records" in errors
    ids = [json.loads(record.value())["event_id"] for record in read_all(kafka, topic)]
    assert set(ids) == set(EventIds(log).of(slice(None)))
    assert 3001 <= len(ids) < 3001 + 2_000  # what is there twice are the last seconds before the kill
    _, output, _ = run(kafka, *arguments, "--resume")
    assert json.loads(output)["records"] == 0
    _, output, errors = run(kafka, *arguments, "--resume", "--seed", "2", "--limit", "10")
    assert json.loads(output)["records"] == 10
    assert "starting at its first row" in errors


def test_a_signal_pauses_a_replay_and_another_resumes_it(
    kafka: KafkaConnection, topic: str, log: BehaviourLog
) -> None:
    ensure_topic(kafka, topic, PARTITIONS)
    arguments = ("--data-path", str(log.path), "--topic", topic, "--rate-limit", "400", "--speed", "max")
    with start(kafka, *arguments) as process:
        try:
            with consumer_of(kafka, topic) as consumer:
                assert consumer.consume(1, timeout=120)
                process.send_signal(signal.SIGUSR1)
                while consumer.consume(1_000, timeout=1):
                    pass
                assert not consumer.consume(1, timeout=1)
                process.send_signal(signal.SIGUSR2)
                assert consumer.consume(1, timeout=120)
            output, errors = process.communicate(timeout=120)
        finally:
            process.kill()
    report = json.loads(output)
    assert report["acknowledged"] == 3001
    assert report["paused_seconds"] > 1.5
    assert report["seconds"] < 3 * report["asked_seconds"]
    assert "paused; SIGUSR2" in errors and "resumed" in errors


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_replay_in_good_order(
    kafka: KafkaConnection, topic: str, log: BehaviourLog, number: signal.Signals
) -> None:
    ensure_topic(kafka, topic, PARTITIONS)
    with start(kafka, "--data-path", str(log.path), "--topic", topic, "--speed", "5000x") as process:
        try:
            with consumer_of(kafka, topic) as consumer:
                assert consumer.consume(1, timeout=120)
            process.send_signal(number)
            output, errors = process.communicate(timeout=120)
        finally:
            process.kill()
    published = json.loads(output)["acknowledged"]
    assert (process.returncode, len(read_all(kafka, topic))) == (128 + number, published)
    assert f"stopped by a signal after {published} records" in errors


def test_events_that_do_not_arrive_are_an_error() -> None:
    nobody = KafkaConnection("127.0.0.1:1")
    publisher = ReplayProducer(nobody, PublisherSettings(delivery_timeout_s=0.3, linger_ms=1))
    publisher.send([(b"u", b"{}", 0), (b"u", b"{}", 1)])
    with pytest.raises(UnreachableError, match="2 of 2 events did not reach topic user-behavior"):
        publisher.finish()


def test_a_topic_that_is_deleted_midway_is_an_error_that_says_so(kafka: KafkaConnection, topic: str) -> None:
    ensure_topic(kafka, topic, PARTITIONS)
    publisher = ReplayProducer(kafka, PublisherSettings(topic=topic, delivery_timeout_s=5))
    publisher.send([(b"u", b"{}", 0)])
    publisher.finish()
    admin = admin_client(kafka)
    admin.delete_topics([topic])[topic].result()
    with pytest.raises(UnreachableError, match=r"did not reach .* topic is not there any more: replay from"):
        while True:
            publisher.send([(b"u", b"{}", 0)])
            publisher.finish()


@pytest.mark.parametrize("ahead", [1, 3])
def test_times_that_kafka_refuses_are_an_error_that_says_so(
    kafka: KafkaConnection, topic: str, ahead: int
) -> None:
    ensure_topic(kafka, topic, 1)
    publisher = ReplayProducer(kafka, PublisherSettings(topic=topic, linger_ms=200))
    times_ms = [1_700_000_000_000] * 5 + [253_402_300_799_000] * ahead  # a batch, which is refused whole
    publisher.send([(b"u", b"{}", time_ms) for time_ms in times_ms])
    with pytest.raises(UnreachableError, match=f"{5 + ahead} events .*message.timestamp.after.max.ms"):
        publisher.finish()


def test_topic_that_cannot_be_made_is_one_line(kafka: KafkaConnection, topic: str) -> None:
    with pytest.raises(SettingsError, match=f"topic {topic} cannot be made: .*num_partitions"):
        ensure_topic(kafka, topic, 100_001)


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
