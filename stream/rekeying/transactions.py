"""Records into Kafka together with how far their source is read: in one transaction, or not at all."""

from collections.abc import Callable, Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from models.errors import TwintideError, UnreachableError
from stream.kafka.connection import KafkaConnection

#: How long Kafka has for a step of a transaction (s).
TIMEOUT_S = 60.0

#: What Kafka says to a producer whose name another has taken.
_FENCED = (KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.PRODUCER_FENCED)


class TransactionalProducer:
    """Sends records; nobody sees them before `commit`, nor ever where it does not come."""

    def __init__(self, kafka: KafkaConnection, name: str) -> None:
        """`name`: another producer of this name, wherever it runs, can commit nothing from now on."""
        self._producer = Producer(
            {
                **kafka.librdkafka(),
                "transactional.id": name,
                "partitioner": "murmur2_random",
                "compression.type": "lz4",
                "linger.ms": 5,
                "queue.buffering.max.messages": 1_000_000,
                "log_level": 0,
            }
        )
        self._try("beginning", lambda: self._producer.init_transactions(TIMEOUT_S))

    def begin(self) -> None:
        """Begin a transaction."""
        self._try("beginning", self._producer.begin_transaction)

    def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: list[tuple[str, bytes]],
        time_ms: int = 0,
    ) -> None:
        """Send a record; its partition follows from its key as in the Java clients."""
        while True:
            try:
                self._producer.produce(topic, value, key, headers=headers, timestamp=time_ms)
                return
            except BufferError:  # the queue is full: let deliveries make room
                self._producer.poll(0.1)
            except KafkaException as error:
                raise _failure("sending", error) from error

    def commit(self, consumer: Consumer, topic: str, positions: Mapping[int, int]) -> None:
        """Let all that was sent be seen, and the consumer's group be at these offsets."""
        places = [TopicPartition(topic, partition, offset) for partition, offset in positions.items()]
        group = consumer.consumer_group_metadata()
        self._try(
            "committing",
            lambda: self._producer.send_offsets_to_transaction(places, group, TIMEOUT_S),
        )
        self._try("committing", lambda: self._producer.commit_transaction(TIMEOUT_S))

    def _try(self, doing: str, step: Callable[[], Any]) -> None:
        """Take a step; where librdkafka says that it may be taken again, take it again once."""
        try:
            try:
                step()
            except KafkaException as error:
                if not error.args[0].retriable():
                    raise
                step()
        except KafkaException as error:
            raise _failure(doing, error) from error


def _failure(doing: str, error: KafkaException) -> TwintideError:
    cause = error.args[0]
    if cause.code() in _FENCED:
        return TwintideError("another process rekeys this topic: one does it at a time; this one gives up")
    return UnreachableError(
        f"{doing} a transaction failed ({cause.str()}): nothing of it counts; start again"
    )
