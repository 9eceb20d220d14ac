"""One process at a time, by a consumer group of its own: who dies leaves it by itself."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from confluent_kafka import Consumer

from models.errors import UnreachableError
from stream.kafka.connection import KafkaConnection
from stream.kafka.group import members

#: How long the group keeps a member that has died (s); brokers allow no less.
SESSION_S = 6.0

#: How long to wait for another member to leave (s): longer than it takes for one that has died.
WAIT_S = 2 * SESSION_S


@contextmanager
def only_member(kafka: KafkaConnection, group: str, topic: str) -> Iterator[None]:
    """Be the one member of a group while the block runs; `topic` is one that exists, and is not read.

    Raises UnreachableError where another member does not leave.
    """
    consumer = Consumer(
        {
            **kafka.librdkafka(),
            "group.id": group,
            "enable.auto.commit": False,
            "session.timeout.ms": round(SESSION_S * 1000),
            "max.poll.interval.ms": 86_400_000,  # nothing is polled while the block runs
            "log_level": 0,
        }
    )
    try:
        consumer.subscribe([topic])
        _wait_for_others(consumer, kafka, group)
        yield
    finally:
        consumer.close()


def _wait_for_others(consumer: Consumer, kafka: KafkaConnection, group: str) -> None:
    """Return once the consumer has joined and is alone."""
    deadline = time.monotonic() + WAIT_S
    while True:
        consumer.poll(0.2)
        consumer.pause(consumer.assignment())
        found = members(kafka, group)
        if len(found) == 1 and consumer.memberid() in found:
            return
        if time.monotonic() > deadline:
            others = sorted(host for member, host in found.items() if member != consumer.memberid())
            who = f"another process is at it, on {', '.join(others)}" if others else "Kafka lets nobody in"
            raise UnreachableError(f"group {group}: {who}; wait for it to end, then try again")
