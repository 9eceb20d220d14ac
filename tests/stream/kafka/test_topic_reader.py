"""Reading a stretch of a topic that others go on writing."""

import uuid

import pytest
from confluent_kafka import Producer

from stream.kafka.connection import KafkaConnection
from stream.kafka.topic_reader import read_all, read_between
from stream.kafka.topics import begin_offsets, end_offsets, ensure_topic

pytestmark = pytest.mark.integration


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
