"""Producing records that must not be lost (changelog, dead letters), and knowing that they arrived."""

import asyncio
import time
from collections.abc import Sequence

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from models.errors import TwintideError
from stream.kafka.connection import KafkaConnection


class PublishError(TwintideError):
    """Kafka did not accept records; the worker must not continue as if it had."""


class AbandonedError(TwintideError):
    """The records waited for were thrown away: some may have arrived."""


#: The largest record that Kafka's clients take by default (bytes).
CLIENT_RECORD_BYTES = 1_000_000

#: What librdkafka reports of records that `AcknowledgedProducer.abandon` threw away.
_PURGED = (KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT)


class AcknowledgedProducer:
    """Sends records and waits until Kafka has acknowledged every one of them."""

    def __init__(
        self, kafka: KafkaConnection, client_id: str, record_bytes: Sequence[int] = (CLIENT_RECORD_BYTES,)
    ) -> None:
        """`record_bytes` are the largest records that its topics take (bytes)."""
        self._settings = {
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
        self._producer = Producer(self._settings)
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

        Raises PublishError where a record was refused, or not acknowledged in time, and AbandonedError where
        `abandon` came first.
        """
        deadline, producer = time.monotonic() + timeout_s, self._producer
        while len(producer) and self._error is None:
            if time.monotonic() > deadline:
                raise PublishError(f"Kafka did not acknowledge {len(producer)} records in {timeout_s:g} s")
            await asyncio.to_thread(producer.flush, 0.1)
        if producer is not self._producer:
            raise AbandonedError("partitions were given away before Kafka had acknowledged their records")
        if self._error is not None:
            raise PublishError(
                f"Kafka refused a record of {self._refused_by}: {self._error.str()}"
            ) from KafkaException(self._error)
        return self._last_offsets

    def abandon(self) -> None:
        """Throw away what was not sent yet: another worker may own these partitions by now."""
        self._producer.purge(in_queue=True, in_flight=True, blocking=False)
        self._producer = Producer(self._settings)  # the old one's sequence numbers have a hole
        self._error = None

    def _on_delivery(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            if error.code() not in _PURGED:
                self._error, self._refused_by = error, str(message.topic())
            return
        place = (message.topic(), message.partition())
        self._last_offsets[place] = max(self._last_offsets.get(place, -1), message.offset())
