"""Reading a topic from its beginning to its end as it is now, as no group."""

from collections.abc import Iterator

from confluent_kafka import Consumer, Message, TopicPartition

from stream.kafka.connection import KafkaConnection
from stream.kafka.topics import end_offsets, partition_counts


def read_all(kafka: KafkaConnection, topic: str, last: int | None = None) -> Iterator[Message]:
    """Yield every record of a topic, each partition's in order, up to its end; none where there is no topic.

    `last` limits it to what stands at the last so many offsets of each partition.
    """
    if topic not in partition_counts(kafka):
        return
    ends = {partition: end for partition, end in end_offsets(kafka, topic).items() if end}
    first = {partition: 0 if last is None else max(end - last, 0) for partition, end in ends.items()}
    consumer = Consumer(
        {
            **kafka.librdkafka(),
            "group.id": "unused",  # librdkafka wants one; nothing joins or commits
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "fetch.queue.backoff.ms": 10,
            "log_level": 2,
        }
    )
    # Reading ends by position, not by the last record: compaction and transactions leave gaps in the offsets.
    consumer.assign([TopicPartition(topic, partition, offset) for partition, offset in first.items()])
    try:
        while ends:
            yield from consumer.consume(10_000, timeout=0.2)
            for position in consumer.position([TopicPartition(topic, partition) for partition in ends]):
                if position.offset >= ends[position.partition]:
                    del ends[position.partition]
    finally:
        consumer.close()
