"""Topics of a benchmark's own: filled, read back, watched until committed, and removed."""

import time
from collections.abc import Callable

import redis
from confluent_kafka import TopicPartition
from tqdm import tqdm

from models.errors import TwintideError
from models.log.behaviour_log import BehaviourLog
from replay.publisher import PublisherSettings, ReplayProducer
from replay.source import MessageSource
from stream.kafka.assigned_consumer import assigned_consumer
from stream.kafka.connection import KafkaConnection
from stream.kafka.group import committed_by
from stream.kafka.topics import TIMEOUT_S, admin_client, end_offsets, ensure_topic, partition_counts

#: How often committed offsets are polled (s).
COMMIT_POLL_S = 0.05
#: A contestant that commits nothing for this long has failed (s).
COMMIT_TIMEOUT_S = 60.0
#: Rows made into messages at once.
SLICE = 10_000


def fill(kafka: KafkaConnection, topic: str, partitions: int, log: BehaviourLog) -> None:
    """Make the topic and publish the log's rows in their order, as `replay` does."""
    ensure_topic(kafka, topic, partitions)
    publisher, source = ReplayProducer(kafka, PublisherSettings(topic=topic)), MessageSource(log)
    for first in tqdm(range(0, len(log), SLICE), desc=f"filling {topic}", disable=None):
        publisher.send(source.messages(slice(first, min(first + SLICE, len(log)))))
    publisher.finish()


def names(kafka: KafkaConnection) -> list[str]:
    """Return the names of all topics."""
    return list(partition_counts(kafka))


def wait_for_commits(kafka: KafkaConnection, group: str, topic: str, on_poll: Callable[[], object]) -> float:
    """Return the time (monotonic s) at which the group had committed the end of every partition.

    `on_poll` is called at every poll. Raises TwintideError where the group gets no further.
    """
    ends = end_offsets(kafka, topic)
    places = [TopicPartition(topic, partition) for partition in ends]
    consumer = assigned_consumer(kafka, group=group)
    left, moved_at = -1, time.monotonic()
    try:
        while True:
            on_poll()
            committed = committed_by(consumer, group, places)
            now = time.monotonic()
            behind = sum(end - committed.get(partition, 0) for partition, end in ends.items())
            if not behind:
                return now
            if behind != left:
                left, moved_at = behind, now
            elif now - moved_at > COMMIT_TIMEOUT_S:
                raise TwintideError(
                    f"{group} has {behind} events left and committed none for {COMMIT_TIMEOUT_S:g} s"
                )
            time.sleep(COMMIT_POLL_S)
    finally:
        consumer.close()


def remove(kafka: KafkaConnection, client: "redis.Redis", prefix: str) -> None:
    """Remove every topic, consumer group and Redis key of the benchmark whose names hold this prefix."""
    admin = admin_client(kafka)
    topics = [name for name in admin.list_topics(timeout=TIMEOUT_S).topics if prefix in name]
    groups = [
        each.group_id
        for each in admin.list_consumer_groups().result(timeout=TIMEOUT_S).valid
        if prefix in each.group_id
    ]
    futures = [
        *(admin.delete_topics(topics).values() if topics else ()),
        *(admin.delete_consumer_groups(groups).values() if groups else ()),
    ]
    for future in futures:
        future.exception(timeout=TIMEOUT_S)  # a group that is still closing stays; nothing depends on it
    for key in client.scan_iter(f"*{prefix}*", count=1_000):
        client.unlink(key)
