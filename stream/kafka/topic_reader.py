"""Reading a topic to its end as it is now."""

from collections.abc import Iterator, Mapping

from confluent_kafka import KafkaError, Message, TopicPartition

from stream.kafka.assigned_consumer import assigned_consumer, fetch, raise_unless_retried
from stream.kafka.connection import KafkaConnection
from stream.kafka.topics import end_offsets, partition_counts

#: Records taken from librdkafka at once.
FETCH_RECORDS = 10_000

#: How long one fetch waits for a record (s).
END_POLL_S = 0.2


def read_all(kafka: KafkaConnection, topic: str, last: int | None = None) -> Iterator[Message]:
    """Yield every record of a topic, each partition's in order, up to its end; none where there is no topic.

    `last` limits it to what stands at the last so many offsets of each partition. Raises as `read_from` does.
    """
    if topic not in partition_counts(kafka):
        return
    ends = end_offsets(kafka, topic)
    yield from read_from(
        kafka, topic, {each: 0 if last is None else max(end - last, 0) for each, end in ends.items()}
    )


def read_from(kafka: KafkaConnection, topic: str, first: Mapping[int, int]) -> Iterator[Message]:
    """Yield what partitions hold from their first offsets to their ends, each partition's in order.

    Records behind an end that came in the same fetch are among them. Raises UnreachableError, and SourceError
    where the topic goes away meanwhile.
    """
    ends = end_offsets(kafka, topic)
    left = {partition: ends[partition] for partition, offset in first.items() if offset < ends[partition]}
    consumer = assigned_consumer(kafka, tells_end=True)
    try:
        consumer.assign([TopicPartition(topic, partition, first[partition]) for partition in left])
        while left:
            for message in fetch(consumer, FETCH_RECORDS, END_POLL_S):
                error, partition = message.error(), message.partition()
                if error is None:
                    yield message
                    position = message.offset() + 1
                elif error.code() == KafkaError._PARTITION_EOF:
                    # Compaction, retention and transactions leave no record at the last offsets.
                    position = message.offset()
                else:
                    raise_unless_retried(error, topic)
                    continue
                if partition in left and position >= left[partition]:
                    del left[partition]
    finally:
        consumer.close()
