"""Reading a topic, or a stretch of it, up to an end that is known before it begins."""

import time
from collections.abc import Callable, Iterator, Mapping

from confluent_kafka import KafkaError, Message, TopicPartition

from models.errors import UnreachableError
from stream.kafka.assigned_consumer import assigned_consumer, fetch, raise_unless_retried
from stream.kafka.connection import KafkaConnection
from stream.kafka.topics import end_offsets, partition_counts

#: Records taken from librdkafka at once.
FETCH_RECORDS = 10_000

#: How long one fetch waits for a record (s).
END_POLL_S = 0.2

#: A broker that brings nothing for this long, although there is more, is down (s).
SILENCE_S = 60.0


def read_all(kafka: KafkaConnection, topic: str, last: int | None = None) -> Iterator[Message]:
    """Yield every record of a topic, each partition's in order, up to its end; none where there is no topic.

    `last` limits it to what stands at the last so many offsets of each partition. Raises as `read_between`
    does.
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
    """Yield the records of the partitions of `first`, in order, from its offsets to before those in `ends`.

    Raises UnreachableError where the broker stops answering, and SourceError where the topic goes away.
    """
    left = {partition: ends[partition] for partition, offset in first.items() if offset < ends[partition]}
    consumer = assigned_consumer(kafka, tells_end=True)
    heard_at = clock()
    try:
        consumer.assign([TopicPartition(topic, partition, first[partition]) for partition in left])
        while left:
            messages = fetch(consumer, FETCH_RECORDS, END_POLL_S)
            for message in messages:
                error, partition, position = message.error(), message.partition(), message.offset()
                if error is None:
                    if position < ends[partition]:
                        yield message
                    position += 1
                elif error.code() != KafkaError._PARTITION_EOF:
                    raise_unless_retried(error, topic)
                    continue
                heard_at = clock()
                # The offset of an end is that of the record to come, also where compaction, retention and
                # transactions leave no record before it.
                if partition in left and position >= left[partition]:
                    del left[partition]
                    consumer.pause([TopicPartition(topic, partition)])
            if clock() - heard_at > SILENCE_S:
                raise UnreachableError(f"topic {topic}: Kafka has brought nothing for {SILENCE_S:g} s")
    finally:
        consumer.close()
