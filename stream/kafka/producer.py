"""Producing records that must not be lost (changelog, dead letters), and knowing that they arrived."""

import asyncio
import time
from collections.abc import Sequence

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from models.errors import TwintideError
from stream.kafka.connection import KafkaConnection


class PublishError(TwintideError):
    """Kafka did not accept records; the worker must not continue as if it had."""


#: The largest record that Kafka's clients take by default (bytes).
CLIENT_RECORD_BYTES = 1_000_000


class AcknowledgedProducer:
    """Sends records and waits until Kafka has acknowledged every one of them."""

    def __init__(
        self, kafka: KafkaConnection, client_id: str, record_bytes: Sequence[int] = (CLIENT_RECORD_BYTES,)
    ) -> None:
        """`record_bytes` are the largest records that its topics take (bytes)."""
        settings = {
            **kafka.librdkafka(),
            "client.id": client_id,
            "acks": "all",
            "enable.idempotence": True,
            "compression.type": "lz4",
            "linger.ms": 5,
            "queue.buffering.max.messages": 1_000_000,
            "message.max.bytes": max(*record_bytes, CLIENT_RECORD_BYTES),
            # To a broker that refuses it, a batch is one record, so none may be larger than any topic takes.
            "batch.size": min(*record_bytes, CLIENT_RECORD_BYTES),
            "log_level": 2,
        }
        self._producer = Producer(settings)
        self._error: KafkaError | None = None
        self._refused_by = ""
        self._last_offsets: dict[tuple[str, int], int] = {}

    def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        *,
        partition: int = -1,
        headers: Sequence[tuple[str, bytes | None]] = (),
    ) -> None:
        """Queue one record; `delivered` says whether it arrived.

        Raises PublishError where the client refuses it at once.
        """
        while True:
            try:
                self._producer.produce(
                    topic, value, key, partition, on_delivery=self._on_delivery, headers=list(headers)
                )
                return
            except BufferError:  # the queue is full: let deliveries make room
                self._producer.poll(0.1)
            except KafkaException as error:
                size = len(key or b"") + len(value or b"")
                reason = error.args[0].str()
                raise PublishError(f"a record of {size} bytes cannot go to {topic}: {reason}") from error

    async def delivered(self, timeout_s: float) -> dict[tuple[str, int], int]:
        """Wait for all that was sent, and return the last offset of every (topic, partition) so far.

        Raises PublishError where a record was refused, or not acknowledged in time.
        """
        deadline = time.monotonic() + timeout_s
        while len(self._producer) and self._error is None:
            if time.monotonic() > deadline:
                raise PublishError(
                    f"Kafka did not acknowledge {len(self._producer)} records in {timeout_s:g} s"
                )
            await asyncio.to_thread(self._producer.flush, 0.1)
        if self._error is not None:
            raise PublishError(
                f"Kafka refused a record of {self._refused_by}: {self._error.str()}"
            ) from KafkaException(self._error)
        return self._last_offsets

    def _on_delivery(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._error, self._refused_by = error, str(message.topic())
            return
        place = (message.topic(), message.partition())
        self._last_offsets[place] = max(self._last_offsets.get(place, -1), message.offset())
