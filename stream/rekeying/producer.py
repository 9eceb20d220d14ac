"""Records into Kafka, partitioned by their keys as the Java clients do it, and knowing that all arrived."""

from collections.abc import Sequence

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from models.errors import UnreachableError
from stream.kafka.connection import KafkaConnection

#: How long a record may be on its way (s), and how long one wait for others is at most (s).
DELIVERY_TIMEOUT_S, WAIT_S = 30.0, 0.5


def producer_settings(kafka: KafkaConnection) -> dict[str, str | int | float | bool]:
    """Return librdkafka's settings for records of which none may be lost, and which keep their order."""
    return {
        **kafka.librdkafka(),
        "acks": "all",
        "enable.idempotence": True,
        "partitioner": "murmur2_random",
        "compression.type": "lz4",
        "linger.ms": 5,
        "queue.buffering.max.messages": 200_000,
        "message.timeout.ms": int(DELIVERY_TIMEOUT_S * 1000),
        "delivery.report.only.error": True,
        "log_level": 0,
    }


class KeyedProducer:
    """Sends records in their order; what has not arrived is an error, at the latest of `arrived`."""

    def __init__(self, kafka: KafkaConnection) -> None:
        self._error: KafkaError | None = None
        self._producer = Producer({**producer_settings(kafka), "on_delivery": self._on_delivery})

    def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes]],
        time_ms: int = 0,
    ) -> None:
        """Send a record, of this time or, where that is 0, of now; UnreachableError where one was refused."""
        while True:
            try:
                self._producer.produce(topic, value, key, headers=list(headers), timestamp=time_ms)
                return
            except BufferError:  # the queue is full: let deliveries make room
                self._producer.poll(WAIT_S)
                self._refuse_failures()
            except KafkaException as error:
                self._error = error.args[0]
                self._refuse_failures()

    def arrived(self) -> None:
        """Return once all that was sent has arrived; UnreachableError where something has not."""
        while self._producer.flush(WAIT_S) and self._error is None:
            pass  # every record arrives or fails in time
        self._refuse_failures()

    def _on_delivery(self, error: KafkaError | None, _message: Message) -> None:
        self._error = self._error or error

    def _refuse_failures(self) -> None:
        if self._error is not None:
            raise UnreachableError(f"Kafka did not take a record: {self._error.str()}")
