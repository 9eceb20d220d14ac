"""Records by librdkafka's C interface are those that confluent-kafka gives, whatever a topic has in it."""

import gc
import logging
import uuid
from collections.abc import Iterator, Sequence
from ctypes import CDLL, c_char_p, c_size_t, c_ssize_t, c_void_p
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

from stream.kafka import librdkafka
from stream.kafka.assigned_consumer import SourceError, assigned_consumer
from stream.kafka.connection import KafkaConnection
from stream.kafka.fetcher import ColumnFetcher, MessageFetcher, fetcher_of
from stream.kafka.librdkafka import Messages, Queue
from stream.kafka.records import Records
from stream.kafka.topics import delete_topic, end_offsets, ensure_topic

NOWHERE = KafkaConnection("127.0.0.1:1")
MANY_BYTES = 1 << 30
#: Key, value and headers of odd records; then come so many plain ones in transactions.
ODD: Sequence[tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]]]] = [
    (b"key", b"value", [("sent_at", b"1"), ("other", b""), ("sent_at", b"2")]),
    (None, None, [("sent_at", None)]),
    (b"", b"", []),
    ("schlüssel".encode(), bytes(range(256)), [("größe", b"\0")]),
    (b"key", b"v" * 100_000, []),
]
PLAIN = 3_000


@pytest.fixture
def topic(kafka: KafkaConnection) -> Iterator[str]:
    """Give a topic with two partitions of the same: odd records, plain ones, gone and kept transactions."""
    name = f"test-fetcher-{uuid.uuid4().hex[:8]}"
    ensure_topic(kafka, name, 2)
    producer = Producer({**kafka.librdkafka(), "transactional.id": name})
    producer.init_transactions(60)
    for number in range(3):
        producer.begin_transaction()
        for partition in (0, 1):
            for key, value, headers in ODD if number == 0 else ():
                producer.produce(name, value, key, partition, headers=headers, timestamp=1_000)
            for each in range(PLAIN // 2 if number else 0):
                producer.produce(name, b"%d" % each, b"%d" % number, partition)
        producer.flush(60)
        producer.abort_transaction(60) if number == 1 else producer.commit_transaction(60)
    yield name
    delete_topic(kafka, name)


def read_to_end(kafka: KafkaConnection, topic: str, make: Any) -> dict[int, tuple[list[Any], int]]:
    """Return all that is known of the records of each partition, and the position behind them."""
    records: Any = None
    consumer = assigned_consumer(kafka, tells_end=True)
    fetcher = make(consumer, topic)
    assert isinstance(fetcher, MessageFetcher if make is MessageFetcher else ColumnFetcher)  # see the log
    consumer.assign([TopicPartition(topic, partition, 0) for partition in (0, 1)])
    found: dict[int, tuple[list[Any], int]] = {0: ([], 0), 1: ([], 0)}
    ends = end_offsets(kafka, topic)
    while any(position < ends[partition] for partition, (_, position) in found.items()):
        for partition, records in fetcher.fetch(1_000, 1.0, MANY_BYTES).items():
            each, position = found[partition]
            assert records.position > position or not len(records)
            of_columns = zip(records.keys, records.values, records.offsets.tolist(), strict=True)
            by_itself = [
                (one.key(), one.value(), one.offset(), one.timestamp(), one.headers()) for one in records.each
            ]
            assert [*of_columns] == [one[:3] for one in by_itself]
            assert records.timestamps().tolist() == [timestamp for *_, (_, timestamp), _ in by_itself]
            assert records.is_at_end == (records.position == ends[partition])
            assert_some_are_those(records, by_itself)
            sent = records.last_headers("sent_at", np.arange(len(records)))
            assert [*sent] == [dict(one[-1] or ()).get("sent_at") for one in by_itself]
            found[partition] = each + by_itself, records.position
    del records  # a consumer is not closed before its messages are given back
    consumer.close()
    return found


def assert_some_are_those(records: Records, by_itself: list[tuple[Any, ...]]) -> None:
    """See that records at some places have all that they had among the others."""
    places = np.flatnonzero(np.arange(len(records)) % 7 % 3)
    some, wanted = records.at(places), [by_itself[place] for place in places.tolist()]
    assert [*zip(some.keys, some.values, some.offsets.tolist(), strict=True)] == [one[:3] for one in wanted]
    assert [each.headers() for each in some.each] == [one[-1] for one in wanted]
    assert some.timestamps().tolist() == [one[3][1] for one in wanted]
    last = some.last_headers("sent_at", np.arange(len(some)))
    assert [*last] == [dict(one[-1] or ()).get("sent_at") for one in wanted]
    canary = some.keys.begin_with(b"sch").tolist()
    assert canary == [(one[0] or b"").startswith(b"sch") for one in wanted]


def held() -> int:
    """Return how many batches of librdkafka's messages nobody has given back."""
    gc.collect()
    return sum(type(each) is Messages for each in gc.get_objects())


@pytest.mark.integration
def test_columns_hold_what_the_messages_do(kafka: KafkaConnection, topic: str) -> None:
    held_before = held()
    by_columns, by_messages = (read_to_end(kafka, topic, make) for make in (fetcher_of, MessageFetcher))
    assert by_columns == by_messages
    for records, position in by_columns.values():
        assert [(key, value) for key, value, *_ in records[: len(ODD)]] == [
            (key, value) for key, value, _ in ODD
        ]
        assert len(records) == len(ODD) + PLAIN // 2 and position > len(ODD) + PLAIN  # with what is not there
    assert held() <= held_before  # all are librdkafka's again


@pytest.mark.integration
def test_fetch_ends_with_so_many_records_or_bytes(kafka: KafkaConnection, topic: str) -> None:
    consumer = assigned_consumer(kafka)
    fetcher = fetcher_of(consumer, topic)
    consumer.assign([TopicPartition(topic, 0, len(ODD) + 1)])
    assert [*fetcher.fetch(7, 60.0, MANY_BYTES)] == [0]
    assert 1 <= len(fetcher.fetch(7, 60.0, MANY_BYTES)[0]) <= 7
    assert len(fetcher.fetch(PLAIN, 60.0, 1)[0]) == 1
    consumer.close()


@pytest.mark.integration
def test_nothing_fetched_before_an_assignment_comes_after_it(kafka: KafkaConnection, topic: str) -> None:
    consumer = assigned_consumer(kafka)
    fetcher = fetcher_of(consumer, topic)
    for number in range(60):
        partition, offset = number % 2, number % 5
        consumer.assign([TopicPartition(topic, partition, offset)])
        found: dict[int, Any] = {}
        for _ in range(600):
            if found := fetcher.fetch(3, 0.1, MANY_BYTES):
                break
        assert list(found) == [partition] and found[partition].offsets[0] == offset
    found.clear()
    consumer.close()


@pytest.mark.integration
def test_topic_that_is_not_there_is_an_error(kafka: KafkaConnection) -> None:
    # Half a minute is what librdkafka gives a topic to appear by itself.
    settings = {**kafka.librdkafka(), "group.id": "unused", "topic.metadata.propagation.max.ms": 1}
    consumer = Consumer(settings)
    fetcher = fetcher_of(consumer, "no-such-topic")
    assert isinstance(fetcher, ColumnFetcher)
    consumer.assign([TopicPartition("no-such-topic", 0, 0)])
    with pytest.raises(SourceError, match="topic no-such-topic cannot be read: "):
        for _ in range(600):
            fetcher.fetch(3, 0.1, MANY_BYTES)
    consumer.close()


def produce_with_header(library: CDLL, kafka: KafkaConnection, topic: str, name: bytes) -> None:
    """Send a record with a header of any name, as a client that is not Python may."""
    producer = Producer(kafka.librdkafka())
    handle = c_void_p(librdkafka._handle(library, producer))
    # What each of RD_KAFKA_VTYPE_... is followed by: TOPIC, PARTITION, VALUE, MSGFLAGS (copy), HEADER, END.
    to = (1, c_char_p(topic.encode()), 3, 0)
    content = (4, c_char_p(b"value"), c_size_t(5), 7, 2, 9, c_char_p(name), c_char_p(b"1"), c_ssize_t(1), 0)
    assert library.rd_kafka_producev(handle, *to, *content) == 0
    assert producer.flush(60) == 0


def test_header_whose_name_is_no_text_stands_in_nobodys_way() -> None:
    cluster = Producer({"bootstrap.servers": "none", "test.mock.num.brokers": 1})  # librdkafka's own, in here
    (broker,) = cluster.list_topics(timeout=60).brokers.values()
    kafka = KafkaConnection(f"{broker.host}:{broker.port}")
    consumer = assigned_consumer(kafka)
    fetcher = fetcher_of(consumer, "topic")
    assert isinstance(fetcher, ColumnFetcher)
    produce_with_header(fetcher._queue._library, kafka, "topic", b"n\xffme")
    consumer.assign([TopicPartition("topic", 0, 0)])
    found: dict[int, Records] = {}
    for _ in range(600):
        if found := fetcher.fetch(3, 0.1, MANY_BYTES):
            break
    (records,) = found.values()
    assert records.each[-1].headers() == [("n\ufffdme", b"1")]
    fetcher.close()
    consumer.close()


def test_broker_that_is_away_ends_neither_process_nor_reading() -> None:
    consumer = assigned_consumer(NOWHERE)
    queue, codes = Queue(consumer), set[int]()
    for _ in range(600):  # it is told as an event, here or apart
        codes |= {code for code, *_ in queue.take(3, 0.1, MANY_BYTES).errors}
        if event := queue._library.rd_kafka_queue_poll(queue._news, 0):
            codes.add(queue._library.rd_kafka_event_error(event))
            queue._library.rd_kafka_event_destroy(event)
        if KafkaError._ALL_BROKERS_DOWN in codes:
            break
    assert KafkaError._ALL_BROKERS_DOWN in codes
    consumer = assigned_consumer(NOWHERE)
    fetcher = fetcher_of(consumer, "topic")
    consumer.assign([TopicPartition("topic", 0, 0)])
    assert not any(fetcher.fetch(3, 0.1, MANY_BYTES) for _ in range(20))


@pytest.mark.parametrize("broken", ["maps", "function", "version", "object"])
def test_without_the_c_interface_messages_are_fetched(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path, broken: str
) -> None:
    librdkafka.loaded_library.cache_clear()
    match broken:
        case "maps":
            monkeypatch.setattr(librdkafka, "MAPS", tmp_path / "none")
        case "function":
            monkeypatch.setitem(librdkafka.FUNCTIONS, "no_such_function", (None,))
        case "version":
            monkeypatch.setattr("confluent_kafka.libversion", lambda: ("1.0.0", 0))
        case "object":
            monkeypatch.setattr(librdkafka, "MEMORY", tmp_path / "none")
    with caplog.at_level(logging.WARNING):
        assert isinstance(fetcher_of(assigned_consumer(NOWHERE), "topic"), MessageFetcher)
    assert len(caplog.records) == 1 and "more CPU" in caplog.text
    librdkafka.loaded_library.cache_clear()
