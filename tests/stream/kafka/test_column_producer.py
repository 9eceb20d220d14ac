"""Records sent from columns arrive as confluent-kafka would have sent them, or it is an error."""

import time
import uuid
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np
import pytest
from aiokafka.partitioner import murmur2
from confluent_kafka import Producer, TopicPartition

from models.errors import TwintideError, UnreachableError
from models.payloads import payloads_of
from stream.kafka.assigned_consumer import assigned_consumer
from stream.kafka.column_producer import ColumnProducer
from stream.kafka.connection import KafkaConnection
from stream.kafka.fetcher import ColumnFetcher, fetcher_of
from stream.kafka.topic_reader import read_all
from stream.kafka.topics import delete_topic, ensure_topic
from stream.rekeying.producer import producer_settings

NOWHERE = KafkaConnection("127.0.0.1:1")
HEADERS: Sequence[list[tuple[str, bytes | None]]] = [
    [("sent_at", b"1"), ("other", b""), ("sent_at", b"2")],
    [("sent_at", None)],
    [],
    [("größe", b"\0")],
]
PARTITIONS = 3


@pytest.fixture
def topic(kafka: KafkaConnection) -> Iterator[str]:
    """Give an empty topic."""
    name = f"test-columns-{uuid.uuid4().hex[:8]}"
    ensure_topic(kafka, name, PARTITIONS)
    yield name
    delete_topic(kafka, name)


def send(producer: ColumnProducer, count: int, value: bytes | None = None) -> None:
    """Send records without headers, numbered by key and value."""
    keys = [b"user %d" % number for number in range(count)]
    values = [b"%d" % number if value is None else value for number in range(count)]
    columns = payloads_of(keys), payloads_of(values), np.full(count, 1_000), np.zeros(count, np.uint64)
    producer.send(*columns, np.arange(count))


@pytest.mark.integration
def test_records_arrive_with_key_value_time_and_headers_of_another(
    kafka: KafkaConnection, topic: str
) -> None:
    producer = Producer(kafka.librdkafka())
    for headers in HEADERS:
        producer.produce(topic, b"before", b"key", 0, headers=headers)
    assert producer.flush(30) == 0
    consumer = assigned_consumer(kafka)
    fetcher = fetcher_of(consumer, topic)
    assert isinstance(fetcher, ColumnFetcher)
    consumer.assign([TopicPartition(topic, 0, 0)])
    records: Any = ()
    while len(records) < len(HEADERS):
        consumer.assign([TopicPartition(topic, 0, 0)])
        records = fetcher.fetch(100, 1.0, 1 << 20).get(0, ())
    keys = [b"u", "schlüssel".encode(), b"u", b"w" * 300, b"left out"]
    values = [b"v", bytes(range(256)), None, b"", b"left out"]
    times_ms, places = np.array([5, 0, 7, 1_417_000_000_000, 1]), np.array([3, 0, 1, 2, 0])
    columns = ColumnProducer(producer_settings(kafka), topic)
    began_ms, order = int(time.time() * 1000), np.array([2, 0, 1, 3])
    columns.send(payloads_of(keys), payloads_of(values), times_ms, records.addresses[places], order)
    columns.arrived()
    fetcher.close()  # what was sent does not need what was read any more
    consumer.close()
    columns.close()
    found = [each for each in read_all(kafka, topic) if each.value() != b"before"]
    assert len(found) == len(order)
    by_key_and_value = {(each.key(), each.value()): each for each in found}
    for place in order.tolist():
        each = by_key_and_value[keys[place], values[place]]
        assert (each.headers() or []) == HEADERS[places[place]]
        assert each.partition() == (murmur2(keys[place]) & 0x7FFFFFFF) % PARTITIONS
        _, sent_ms = each.timestamp()
        assert sent_ms == times_ms[place] or (times_ms[place] == 0 and began_ms <= sent_ms)
    assert [each.value() for each in found if each.key() == b"u"] == [None, b"v"]  # in their order


@pytest.mark.integration
def test_more_records_than_the_queue_holds_arrive_in_their_order(kafka: KafkaConnection, topic: str) -> None:
    settings = producer_settings(kafka) | {"queue.buffering.max.messages": 100}
    producer = ColumnProducer(settings, topic)
    send(producer, 5_000)
    producer.arrived()
    producer.close()
    found: dict[int, list[int]] = {}
    for each in read_all(kafka, topic):
        found.setdefault(each.partition() or 0, []).append(int(each.value() or b""))
    assert sorted(chain.from_iterable(found.values())) == [*range(5_000)]
    assert all(numbers == sorted(numbers) for numbers in found.values())


@pytest.mark.integration
def test_what_kafka_does_not_take_is_an_error(kafka: KafkaConnection, topic: str) -> None:
    producer = ColumnProducer(producer_settings(kafka), topic)
    with pytest.raises(UnreachableError, match=r"Kafka did not take a record: .*size"):
        send(producer, 1, b"v" * 2_000_000)
    producer.close()
    # The times are so far in the future that the broker refuses them: seen once it was asked.
    producer = ColumnProducer(producer_settings(kafka), topic)
    later = np.full(1, int(time.time() * 1000) + 7 * 86_400_000)
    with pytest.raises(UnreachableError, match=r"Kafka did not take a record: Broker: .*imestamp"):
        producer.send(payloads_of([b"u"]), payloads_of([b"v"]), later, np.zeros(1, np.uint64), np.arange(1))
        producer.arrived()
    producer.close()


def test_kafka_that_is_away_is_an_error_also_where_the_queue_is_full() -> None:
    settings = producer_settings(NOWHERE) | {"message.timeout.ms": 1_000}
    producer = ColumnProducer(settings, "topic")
    send(producer, 10)
    with pytest.raises(UnreachableError, match="Kafka did not take a record: "):
        producer.arrived()
    producer.close()
    producer = ColumnProducer(settings | {"queue.buffering.max.messages": 10}, "topic")
    with pytest.raises(UnreachableError, match="Kafka did not take a record: "):
        send(producer, 11)
    producer.close()


def test_settings_that_librdkafka_does_not_take_are_named_without_their_values() -> None:
    with pytest.raises(TwintideError, match=r"librdkafka does not take the setting ssl\.hidden$"):
        ColumnProducer({"ssl.hidden": "secret"}, "topic")
    with pytest.raises(TwintideError, match=r"librdkafka cannot produce: .*sasl\.username"):
        ColumnProducer({"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN"}, "topic")
