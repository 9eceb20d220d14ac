"""Events sent to Kafka at a steady rate."""

import threading
import time
from collections.abc import Callable, Sequence

from models.log.behaviour_log import BehaviourLog
from replay.publisher import PublisherSettings, ReplayProducer
from replay.source import MessageSource, ReplayMessage
from stream.kafka.connection import KafkaConnection

#: What is due is sent this often (s), each time with one send time.
TICK_S = 0.01
#: Events sent ahead, and not measured, so that caches and windows are filled.
WARM_UP_EVENTS = 20_000


def send_steadily(
    kafka: KafkaConnection,
    topic: str,
    messages: Callable[[slice], Sequence[ReplayMessage]],
    count: int,
    rate: int,
    is_over: threading.Event | None = None,
) -> None:
    """Send `count` messages, `rate` a second, or until `is_over`; return when Kafka has them.

    Raises UnreachableError where one did not arrive.
    """
    publisher = ReplayProducer(kafka, PublisherSettings(topic=topic, linger_ms=1))
    is_over = is_over or threading.Event()
    sent, started = 0, time.monotonic()
    while sent < count and not is_over.is_set():
        due = min(int((time.monotonic() - started) * rate), count)
        publisher.send(messages(slice(sent, due)))
        sent = due
        is_over.wait(TICK_S)
    publisher.finish()


class SteadyTraffic(threading.Thread):
    """Sends a log's events at a steady rate until `finish`."""

    def __init__(self, kafka: KafkaConnection, topic: str, log: BehaviourLog, rate: int) -> None:
        self._is_over = threading.Event()
        arguments = (kafka, topic, MessageSource(log).messages, len(log), rate, self._is_over)
        super().__init__(target=send_steadily, args=arguments, daemon=True)

    def finish(self) -> None:
        """Stop, and return when Kafka has taken everything."""
        self._is_over.set()
        self.join()
