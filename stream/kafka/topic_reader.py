"""Reading a topic, or a stretch of it, up to an end that is known before it begins, as no group."""

import time
from collections.abc import Callable, Iterator, Mapping

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from models.errors import UnreachableError
from stream.kafka.connection import KafkaConnection
from stream.kafka.topics import end_offsets, partition_counts

#: A broker that brings nothing for this long, although there is more, is down (s).
SILENCE_S = 60.0


def read_all(kafka: KafkaConnection, topic: str, last: int | None = None) -> Iterator[Message]:
    """Yield every record of a topic, each partition's in order, up to its end; none where there is no topic.

    `last` limits it to what stands at the last so many offsets of each partition. Raises UnreachableError.
    """
    if topic not in partition_counts(kafka):
        return
    ends = end_offsets(kafka, topic)
    first = {partition: 0 if last is None else max(end - last, 0) for partition, end in ends.items()}
    yield from read_between(kafka, topic, first, ends)


def read_between(
    kafka: KafkaConnection,
    topic: str,
    first: Mapping[int, int],
    ends: Mapping[int, int],
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Message]:
    """Yield the records of each partition, in order, from its offset in `first` to before that in `ends`.

    Raises UnreachableError where the broker stops answering.
    """
    left = {partition: end for partition, end in ends.items() if first[partition] < end}
    if not left:
        return
    consumer = Consumer(
        {
            **kafka.librdkafka(),
            "group.id": "unused",  # librdkafka wants one; nothing joins or commits
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            # Compaction and transactions leave gaps in the offsets, also before an end: this tells of it.
            "enable.partition.eof": True,
            "fetch.queue.backoff.ms": 10,
            "log_level": 2,
        }
    )
    consumer.assign([TopicPartition(topic, partition, first[partition]) for partition in left])
    heard_at = clock()
    try:
        while left:
            messages = consumer.consume(10_000, timeout=0.2)
            for message in messages:
                partition = message.partition()
                error = message.error()
                if error is not None and error.code() == KafkaError._PARTITION_EOF:
                    left.pop(partition, None)
                elif error is not None and not error.retriable():
                    raise UnreachableError(f"topic {topic} cannot be read: {error.str()}")
                elif error is None and message.offset() < ends[partition]:
                    yield message
            for place in consumer.position([TopicPartition(topic, partition) for partition in left]):
                if place.offset >= ends[place.partition]:
                    del left[place.partition]
                    consumer.pause([TopicPartition(topic, place.partition)])
            if messages:
                heard_at = clock()
            elif clock() - heard_at > SILENCE_S:
                raise UnreachableError(f"topic {topic}: Kafka has brought nothing for {SILENCE_S:g} s")
    finally:
        consumer.close()
