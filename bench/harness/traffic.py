"""Events sent to Kafka at a steady rate."""

import threading
import time
from collections.abc import Callable, Sequence

from models.errors import UnreachableError
from models.log.behaviour_log import BehaviourLog
from replay.publisher import PublisherSettings, ReplayProducer
from replay.source import MessageSource, ReplayMessage
from stream.kafka.connection import KafkaConnection

#: What is due is sent this often (s), each time with one send time.
TICK_S = 0.01
#: How long an event may take to Kafka, which may be down meanwhile (s).
DELIVERY_S = 120.0
#: Events sent ahead, and not measured, so that caches and windows are filled.
WARM_UP_EVENTS = 20_000


def send_steadily(
    kafka: KafkaConnection,
    topic: str,
    messages: Callable[[slice], Sequence[ReplayMessage]],
    count: int,
    rate: int,
    is_over: threading.Event | None = None,
) -> int:
    """Send `count` messages, `rate` a second, or until `is_over`; return how many when Kafka has them.

    Raises UnreachableError where one did not arrive.
    """
    publisher = ReplayProducer(
        kafka, PublisherSettings(topic=topic, linger_ms=1, delivery_timeout_s=DELIVERY_S)
    )
    is_over = is_over or threading.Event()
    sent, started = 0, time.monotonic()
    while sent < count and not is_over.is_set():
        due = min(int((time.monotonic() - started) * rate), count)
        publisher.send(messages(slice(sent, due)))
        sent = due
        is_over.wait(TICK_S)
    publisher.finish()
    return sent


class SteadyTraffic(threading.Thread):
    """Sends a log's events, from the row `first` on, at a steady rate until `finish`."""

    def __init__(
        self, kafka: KafkaConnection, topic: str, log: BehaviourLog, rate: int, first: int = 0
    ) -> None:
        super().__init__(name="traffic", daemon=True)
        self._is_over = threading.Event()
        self._source, self._first = MessageSource(log), first
        self._where = (kafka, topic, rate)
        self._sent: int | None = None

    def run(self) -> None:
        """Send."""
        kafka, topic, rate = self._where
        count = len(self._source.log) - self._first
        self._sent = send_steadily(kafka, topic, self._messages, count, rate, self._is_over)

    def finish(self) -> int:
        """Stop, and return how many events were sent when Kafka has taken them all.

        Raises UnreachableError where one did not arrive.
        """
        self._is_over.set()
        self.join()
        if self._sent is None:
            raise UnreachableError("events did not reach Kafka: the reason is above")
        return self._sent

    def _messages(self, rows: slice) -> list[ReplayMessage]:
        return self._source.messages(slice(self._first + rows.start, self._first + rows.stop))
