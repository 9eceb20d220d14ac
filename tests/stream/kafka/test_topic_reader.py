"""Reading topics as no group: a record is there at once, and every topic has an end."""

import time
import uuid
from collections.abc import Iterator

import faust
import pytest
from confluent_kafka import KafkaError, Producer, TopicPartition
from confluent_kafka.admin import OffsetSpec

from models.errors import UnreachableError
from stream.kafka.assigned_consumer import SourceError, assigned_consumer, fetch, raise_unless_retried
from stream.kafka.connection import KafkaConnection
from stream.kafka.topic_reader import read_all, read_between
from stream.kafka.topics import (
    TIMEOUT_S,
    WINDOWS_TABLE,
    admin_client,
    begin_offsets,
    changelog_topic,
    end_offsets,
    ensure_topic,
)

PARTITIONS = 2


@pytest.fixture
def topic(kafka: KafkaConnection) -> Iterator[str]:
    """Give a topic with the values 0 to 9, the even ones in partition 0."""
    name = f"test-reading-{uuid.uuid4().hex[:8]}"
    ensure_topic(kafka, name, PARTITIONS)
    send(kafka, name, range(10))
    yield name
    delete(kafka, name)


def delete(kafka: KafkaConnection, topic: str) -> None:
    client = admin_client(kafka)
    client.delete_topics([topic])[topic].result(TIMEOUT_S)


def send(kafka: KafkaConnection, topic: str, values: range) -> None:
    producer = Producer(kafka.librdkafka())
    for value in values:
        producer.produce(topic, str(value).encode(), partition=value % PARTITIONS)
    assert producer.flush(TIMEOUT_S) == 0


def values_of(kafka: KafkaConnection, topic: str, last: int | None = None) -> list[int]:
    return sorted(int(message.value() or b"") for message in read_all(kafka, topic, last))


def delete_before(kafka: KafkaConnection, topic: str, offsets: list[int]) -> None:
    """Delete what comes before these offsets, as retention does."""
    client = admin_client(kafka)
    places = [TopicPartition(topic, partition, offset) for partition, offset in enumerate(offsets)]
    for future in client.delete_records(places).values():
        future.result(TIMEOUT_S)
    starts = client.list_offsets({place: OffsetSpec.earliest() for place in places})
    assert [future.result(TIMEOUT_S).offset for future in starts.values()] == offsets


def test_changelog_has_the_name_that_faust_gives_it() -> None:
    table = faust.App("shop", broker="kafka://127.0.0.1:1").Table(WINDOWS_TABLE)
    assert table.changelog_topic.get_topic_name() == changelog_topic("shop") == "shop-windows-changelog"


@pytest.mark.integration
def test_all_of_a_topic_is_read_or_the_last_of_each_partition(kafka: KafkaConnection, topic: str) -> None:
    assert values_of(kafka, topic) == list(range(10))
    assert values_of(kafka, topic, last=2) == [6, 7, 8, 9]
    assert values_of(kafka, "no-such-topic") == []
    with pytest.raises(UnreachableError, match="topic no-such-topic is not there any more"):
        end_offsets(kafka, "no-such-topic")


@pytest.mark.integration
@pytest.mark.parametrize(("offsets", "expected"), [([3, 5], [6, 8]), ([5, 5], [])])
def test_topic_whose_old_records_are_deleted_has_an_end(
    kafka: KafkaConnection, topic: str, offsets: list[int], expected: list[int]
) -> None:
    delete_before(kafka, topic, offsets)
    assert values_of(kafka, topic) == expected


@pytest.mark.integration
def test_stretch_is_read_to_its_end_and_no_further(kafka: KafkaConnection) -> None:
    topic = f"test-{uuid.uuid4().hex[:8]}"
    ensure_topic(kafka, topic, 3)
    producer = Producer({**kafka.librdkafka(), "transactional.id": topic})
    producer.init_transactions(20)
    producer.begin_transaction()  # its end leaves a gap in the offsets
    for number in range(60):
        producer.produce(topic, str(number).encode(), partition=number % 2)
    producer.commit_transaction(20)
    ends = end_offsets(kafka, topic)
    assert (begin_offsets(kafka, topic), ends) == ({0: 0, 1: 0, 2: 0}, {0: 31, 1: 31, 2: 0})
    producer.begin_transaction()
    producer.produce(topic, b"later", partition=0)
    producer.commit_transaction(20)
    found = list(read_between(kafka, topic, {0: 10, 1: 31, 2: 0}, ends))
    assert [int(each.value()) for each in found] == list(range(20, 60, 2))
    assert len(list(read_all(kafka, topic))) == 61
    assert list(read_between(kafka, topic, ends, ends)) == []
    delete(kafka, topic)


@pytest.mark.integration
def test_one_record_does_not_wait_for_a_full_batch(kafka: KafkaConnection, topic: str) -> None:
    consumer = assigned_consumer(kafka)
    try:
        consumer.assign([TopicPartition(topic, each, end) for each, end in end_offsets(kafka, topic).items()])
        assert fetch(consumer, 1_000, timeout_s=1.0) == []
        send(kafka, topic, range(1))
        started = time.monotonic()
        assert len(fetch(consumer, 1_000, timeout_s=60.0)) == 1
        assert time.monotonic() - started < 30
    finally:
        consumer.close()


def test_error_that_librdkafka_does_not_heal_is_raised() -> None:
    refused = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED, "not for you")
    with pytest.raises(SourceError, match="topic events cannot be read: not for you"):
        raise_unless_retried(refused, "events")
    raise_unless_retried(KafkaError(KafkaError.LEADER_NOT_AVAILABLE, "soon", retriable=True), "events")


def test_broker_that_brings_nothing_for_long_is_down() -> None:
    nowhere, minutes = KafkaConnection("127.0.0.1:1"), iter(range(0, 6_000, 60))
    with pytest.raises(UnreachableError, match="topic events: Kafka has brought nothing for 60 s"):
        list(read_between(nowhere, "events", {0: 0}, {0: 5}, lambda: next(minutes)))
