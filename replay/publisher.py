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
#: How often it is seen to what did not arrive (s); each time the thread that makes messages takes over.
POLL_S = 0.05
#: How long to wait for the answer whether the topic is still there (s).
ASK_TIMEOUT_S = 3.0
#: How Kafka refuses times: one of a batch, and several, by name. All else of the batch is refused with them.
BAD_TIMES = (KafkaError.INVALID_TIMESTAMP, KafkaError.INVALID_RECORD)
#: The partitioner chooses.
ANY_PARTITION = -1


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
        #: How many messages, from the first on, are known to have arrived.
        self.acknowledged = 0
        self.failed = 0
        self._failure: KafkaError | None = None
        self._kafka = kafka
        self._settings = settings
        self._is_stopping = is_stopping
        self._wall_clock = wall_clock
        self._next_poll_s = 0.0
        self._producer = Producer(
            {**kafka.librdkafka(), **settings.librdkafka(), "on_delivery": self._on_report}
        )

    def send(self, messages: Sequence[ReplayMessage]) -> None:
        """Hand messages over, in order; wait while the queue is full, but not when stopping.

        Raises UnreachableError once a message is known not to have arrived.
        """
        keys, values, times_ms = ([message[part] for message in messages] for part in range(3))
        self.send_columns(keys, values, times_ms)  # type: ignore[arg-type]

    def send_columns(self, keys: Sequence[bytes], values: Sequence[bytes], times_ms: Sequence[int]) -> None:
        """Do what `send` does, with keys, values and timestamps (R,)."""
        for start in range(0, len(keys), RUN_MESSAGES):
            part = slice(start, start + RUN_MESSAGES)
            headers = [("sent_at", str(int(self._wall_clock() * 1_000)).encode())]
            if not self._send_run(keys[part], values[part], times_ms[part], headers):
                return
        if (now_s := self._wall_clock()) >= self._next_poll_s:
            self._next_poll_s = now_s + POLL_S
            self.poll()

    def poll(self) -> None:
        """See what has arrived, without waiting; UnreachableError where something did not."""
        self._producer.poll(0)
        self._refuse_failures()
        if not len(self._producer):
            self.acknowledged = self.sent

    def finish(self) -> None:
        """Wait until everything handed over has arrived; UnreachableError where something did not."""
        while self._producer.flush(FLUSH_WAIT_S):
            pass  # every message arrives or fails within delivery_timeout_s
        self._refuse_failures()
        self.acknowledged = self.sent

    def _send_run(
        self,
        keys: Sequence[bytes],
        values: Sequence[bytes],
        times_ms: Sequence[int],
        headers: list[tuple[str, bytes]],
    ) -> bool:
        """Hand messages over, and return whether that was done.

        Arguments go by their places: by their names they cost a third of the time.
        """
        produce, topic, done = self._producer.produce, self._settings.topic, 0
        for key, value, time_ms in zip(keys, values, times_ms, strict=True):
            while True:
                try:
                    produce(topic, value, key, ANY_PARTITION, None, None, time_ms, headers)
                    done += 1
                    break
                except BufferError:
                    self._producer.poll(ROOM_WAIT_S)
                    self._refuse_failures()
                    if self._is_stopping():
                        self.sent += done
                        return False
                except KafkaException as error:
                    self._on_report(error.args[0], None)
                    self._refuse_failures()
        self.sent += done
        return True

    def _on_report(self, error: KafkaError | None, _report: Report | None) -> None:
        if error is not None:
            self.failed += 1
            if self._failure is None or self._failure.code() == KafkaError._INVALID_DIFFERENT_RECORD:
                self._failure = error

    def _refuse_failures(self) -> None:
        if self._failure is not None:
            raise UnreachableError(
                f"at least {self.failed} of {self.sent} events did not reach topic {self._settings.topic} at "
                f"{self._kafka.bootstrap_servers} ({self._failure.str()}): {self._what_to_do(self._failure)}"
            )

    def _what_to_do(self, failure: KafkaError) -> str:
        resume = "--resume goes on, and consumers know by event_id the events that did arrive"
        if failure.code() in BAD_TIMES:
            return (
                "Kafka takes no times that are further ahead of its clock than the topic's "
                "message.timestamp.after.max.ms, an hour: leave them out with --to, or move all by "
                f"--rebase-time now; {resume}"
            )
        if self._is_topic_gone():
            return "the topic is not there any more: replay from the beginning, which makes it again"
        return f"see that the brokers are up, then replay again; {resume}"

    def _is_topic_gone(self) -> bool:
        """Return whether Kafka says that there is no such topic; whoever cannot be asked says nothing."""
        topic = self._settings.topic
        try:
            error = self._producer.list_topics(topic, timeout=ASK_TIMEOUT_S).topics[topic].error
        except KafkaException:
            return False
        return error is not None and error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART
