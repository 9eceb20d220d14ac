"""Messages into a Kafka topic: acknowledged by all replicas, none twice, none silently lost."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka import Message as Report

from models.errors import SettingsError, UnreachableError
from replay.source import ReplayMessage
from stream.kafka.connection import KafkaConnection

COMPRESSIONS = ("none", "lz4", "snappy", "zstd", "gzip")
#: Messages that share one `sent_at`; far less than a millisecond apart from each other at full speed.
RUN_MESSAGES = 100
#: Wait for room in librdkafka's queue, per attempt (s).
ROOM_WAIT_S = 0.02
#: Longest wait before a stop is noticed (s).
FLUSH_WAIT_S = 0.5


@dataclass(frozen=True, slots=True)
class PublisherSettings:
    """How messages travel to Kafka."""

    topic: str = "user-behavior"
    #: One of COMPRESSIONS.
    compression: str = "lz4"
    #: How long a message may wait for others to travel with it (ms).
    linger_ms: int = 5
    #: Messages that may wait for their acknowledgement; then the sender waits.
    queue_messages: int = 200_000
    #: A message not acknowledged by then has failed (s).
    delivery_timeout_s: float = 30.0

    def __post_init__(self) -> None:
        if not self.topic:
            raise SettingsError("--topic is empty; give the topic's name")
        if self.compression not in COMPRESSIONS:
            raise SettingsError(f"compression is {self.compression!r}; use one of {', '.join(COMPRESSIONS)}")
        if self.delivery_timeout_s * 1_000 <= self.linger_ms:
            raise SettingsError(
                f"delivery_timeout_s is {self.delivery_timeout_s}; "
                f"it must be above linger_ms ({self.linger_ms})"
            )

    def librdkafka(self) -> dict[str, str | int | float | bool]:
        """Return the settings in librdkafka's words; the partitioner is the Java clients' default."""
        return {
            "acks": "all",
            "enable.idempotence": True,
            "partitioner": "murmur2_random",
            "compression.type": self.compression,
            "linger.ms": self.linger_ms,
            "queue.buffering.max.messages": self.queue_messages,
            "message.timeout.ms": round(self.delivery_timeout_s * 1_000),
            "delivery.report.only.error": True,
            "log_level": 2,
        }


class ReplayProducer:
    """Hands messages to a producer, and knows how many it handed over and how many did not arrive."""

    def __init__(
        self,
        kafka: KafkaConnection,
        settings: PublisherSettings,
        is_stopping: Callable[[], bool] = lambda: False,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.sent = 0
        self.failed = 0
        self._first_failure = ""
        self._kafka = kafka
        self._settings = settings
        self._is_stopping = is_stopping
        self._wall_clock = wall_clock
        self._producer = Producer(
            {**kafka.librdkafka(), **settings.librdkafka(), "on_delivery": self._on_report}
        )

    def send(self, messages: Sequence[ReplayMessage]) -> None:
        """Hand messages over, in order; wait while the queue is full, but not when stopping.

        Raises UnreachableError once a message is known not to have arrived.
        """
        for start in range(0, len(messages), RUN_MESSAGES):
            headers = [("sent_at", str(int(self._wall_clock() * 1_000)).encode())]
            for message in messages[start : start + RUN_MESSAGES]:
                if not self._produce(message, headers):
                    return
        self._producer.poll(0)
        self._refuse_failures()

    def finish(self) -> None:
        """Wait until everything handed over has arrived; UnreachableError where something did not."""
        while self._producer.flush(FLUSH_WAIT_S):
            pass  # every message arrives or fails within delivery_timeout_s
        self._refuse_failures()

    def _produce(self, message: ReplayMessage, headers: list[tuple[str, bytes]]) -> bool:
        """Hand one message over, and return whether that was done."""
        key, value, time_ms = message
        while True:
            try:
                self._producer.produce(self._settings.topic, value, key, timestamp=time_ms, headers=headers)
                self.sent += 1
                return True
            except BufferError:
                self._producer.poll(ROOM_WAIT_S)
                self._refuse_failures()
                if self._is_stopping():
                    return False
            except KafkaException as error:
                self._on_report(error.args[0], None)
                self._refuse_failures()

    def _on_report(self, error: KafkaError | None, _report: Report | None) -> None:
        if error is not None:
            self.failed += 1
            self._first_failure = self._first_failure or error.str()

    def _refuse_failures(self) -> None:
        if self.failed:
            raise UnreachableError(
                f"at least {self.failed} of {self.sent} events did not reach topic {self._settings.topic} at "
                f"{self._kafka.bootstrap_servers} ({self._first_failure}): see that the brokers are up, then "
                "replay again; consumers know by event_id the events that did arrive"
            )
