"""The consumer of every reader here: it joins no group, commits nothing, and reads what it is assigned."""

import math

from confluent_kafka import Consumer, KafkaError, KafkaException, Message

from models.errors import TwintideError
from stream.kafka.connection import KafkaConnection

#: Messages asked for at a time where bytes are counted.
PORTION = 500


class SourceError(TwintideError):
    """A topic cannot be read any more."""


def assigned_consumer(
    kafka: KafkaConnection, read_ahead_mb: int = 64, *, tells_end: bool = False, group: str = "unused"
) -> Consumer:
    """Return a consumer without a group: `assign` says which partitions it reads, and from where.

    An offset that does not exist any more stands for the oldest that does. librdkafka holds at most so many
    megabytes of records ready. With `tells_end`, a message with the error _PARTITION_EOF comes whenever the
    end of a partition is reached. Offsets may be committed for `group`, which must have no members.
    """
    return Consumer(
        {
            **kafka.librdkafka(),
            "group.id": group,  # librdkafka wants one; nothing joins it
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "earliest",
            "enable.partition.eof": tells_end,
            "fetch.wait.max.ms": 100,
            "fetch.queue.backoff.ms": 10,  # the default of a second stalls a fast reader
            "queued.max.messages.kbytes": read_ahead_mb << 10,
            "log_level": 2,
        }
    )


def fetch(consumer: Consumer, at_most: int, timeout_s: float, most_bytes: int | None = None) -> list[Message]:
    """Return what is at hand, at most so many messages; wait for the first if there is none.

    With `most_bytes`, no more once their values have so many bytes, but for PORTION messages.

    What is wrong with a message's partition, its `error` says: see `raise_unless_retried`.
    """
    first = consumer.poll(timeout_s)
    if first is None:
        return []
    # Not consume() with the timeout: it returns once it has `at_most` messages or the time is over, so that a
    # single record would wait for the whole timeout.
    found, portion = [first], at_most if most_bytes is None else PORTION
    room = math.inf if most_bytes is None else most_bytes - len(first)
    while room > 0 and len(found) < at_most:
        more = consumer.consume(min(portion, at_most - len(found)), timeout=0)
        if not more:
            break
        found += more
        room -= sum(map(len, more))
    return found


def raise_unless_retried(error: KafkaError, topic: str) -> None:
    """Raise SourceError for what is wrong with a message, unless librdkafka tries again by itself.

    Who may not use the group that librdkafka wants a name of needs none: nothing joins it.
    """
    if not error.retriable() and error.code() != KafkaError.GROUP_AUTHORIZATION_FAILED:
        raise SourceError(f"topic {topic} cannot be read: {error.str()}") from KafkaException(error)
