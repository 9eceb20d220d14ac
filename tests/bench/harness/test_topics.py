"""A benchmark's topic, watched until a group has committed all of it."""

import uuid
from collections.abc import Iterator

import pytest
from confluent_kafka import Producer, TopicPartition

from bench.harness import topics
from bench.harness.topics import wait_for_commits
from models.errors import TwintideError
from stream.kafka.assigned_consumer import assigned_consumer
from stream.kafka.connection import KafkaConnection
from stream.kafka.topics import delete_topic, ensure_topic

pytestmark = pytest.mark.integration


@pytest.fixture
def topic(kafka: KafkaConnection) -> Iterator[str]:
    """Give a topic of two partitions, the second of which is empty."""
    name = f"test-commits-{uuid.uuid4().hex[:8]}"
    ensure_topic(kafka, name, 2)
    producer = Producer(kafka.librdkafka())
    for number in range(3):
        producer.produce(name, b"%d" % number, partition=0)
    assert producer.flush(60) == 0
    yield name
    delete_topic(kafka, name)


def test_wait_ends_once_all_is_committed_and_fails_where_nothing_more_is(
    kafka: KafkaConnection, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topics, "COMMIT_TIMEOUT_S", 0.3)
    group = f"{topic}-group"
    with pytest.raises(TwintideError, match=f"{group} has 3 events left and committed none for 0.3 s"):
        wait_for_commits(kafka, group, topic, lambda: None)
    consumer = assigned_consumer(kafka, group=group)
    polls: list[int] = []

    def commit_one() -> None:
        polls.append(len(polls) + 1)
        consumer.commit(offsets=[TopicPartition(topic, 0, min(len(polls), 3))], asynchronous=False)

    wait_for_commits(kafka, group, topic, commit_one)
    assert polls == [1, 2, 3]
    consumer.close()
