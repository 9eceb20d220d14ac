"""The canary at work: it sends events of its own users, and asks Redis for them as a ranker would.

It shares nothing with the worker: time runs from before an event is handed to Kafka until the reader that
rankers import gets a vector whose offset has reached the event's.
"""

import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import redis
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from models.errors import TwintideError
from models.events import Event
from stream.canary import metrics
from stream.canary.encoding import Encoder
from stream.canary.event_clock import EventClock
from stream.events.incoming import SENT_AT_HEADER
from stream.serving import Reader

logger = logging.getLogger(__name__)

#: What the canary's users look at: no item of anybody's, so nobody's popularity changes.
ITEM_ID = "twintide-canary-item"

#: Pause between two questions to Redis (s): no measurement can be more exact.
ASK_EVERY_S = 0.005

#: Measurements that the summary is made of, the newest.
KEPT_MEASUREMENTS = 100_000


@dataclass(frozen=True, slots=True)
class CanarySettings:
    """Who sends where, how often, and how long it waits."""

    topic: str
    #: A user of each partition.
    users: tuple[str, ...]
    #: What tells this run's events from those of others.
    run: str
    #: Each partition gets an event every so many seconds.
    every_s: float = 1.0
    #: An event that is not readable by then is lost (s).
    lost_after_s: float = 30.0


@dataclass(slots=True)
class Waiting:
    """An event that is not known to be readable yet."""

    partition: int
    #: When it was handed to Kafka (monotonic s).
    sent_at_s: float
    #: Where it stands on the topic; -1: Kafka has not said yet.
    offset: int = -1


@dataclass(slots=True)
class Findings:
    """What a canary has found so far."""

    sent: int = 0
    readable: int = 0
    #: Events that were never readable, and those that Kafka did not take, by partition.
    lost: dict[int, int] = field(default_factory=dict)
    refused: dict[int, int] = field(default_factory=dict)
    #: What Kafka or Redis said last where they failed.
    last_error: str = ""
    seconds: "deque[float]" = field(default_factory=lambda: deque(maxlen=KEPT_MEASUREMENTS))


class Canary:
    """Sends and asks, from one thread."""

    def __init__(
        self,
        settings: CanarySettings,
        producer: Producer,
        reader: Reader,
        encoder: Encoder,
        event_clock: EventClock,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is sent yet."""
        self.found = Findings()
        self._settings = settings
        self._users = settings.users
        self._producer = producer
        self._reader = reader
        self._encoder = encoder
        self._event_clock = event_clock
        self._timer = timer
        self._waiting: list[Waiting] = []
        #: Partitions whose last event was lost, which was said.
        self._losing: set[int] = set()
        self._next_at_s = timer()
        for partition in range(len(settings.users)):  # a counter that begins at 1 has not grown to Prometheus
            for result in ("readable", "lost", "refused"):
                metrics.events_total.labels(partition, result)

    @property
    def is_waiting(self) -> bool:
        """Return whether an event is not readable yet."""
        return bool(self._waiting)

    def step(self, is_sending: bool) -> None:
        """Send what is due, unless it has stopped sending, and ask for what is not readable yet."""
        while is_sending and self._timer() >= self._next_at_s:
            self._send(self.found.sent % len(self._users))
            self._next_at_s = max(
                self._next_at_s + self._settings.every_s / len(self._users), self._timer() - 1
            )
        self._producer.poll(0)
        self._ask()
        self._give_up()
        self._show()

    def _send(self, partition: int) -> None:
        number, waiting = self.found.sent, Waiting(partition, self._timer())
        self.found.sent += 1
        user_id, time_ms = self._users[partition], self._event_clock.now_ms()
        event = Event(user_id, ITEM_ID, 1, time_ms, event_id=f"{user_id}/{self._settings.run}/{number}")

        def report(error: KafkaError | None, message: Message) -> None:
            if error is None:
                waiting.offset = int(message.offset() or 0)
            else:
                self._refuse(waiting, error.str())

        self._waiting.append(waiting)
        try:
            self._producer.produce(
                self._settings.topic,
                self._encoder(event),
                user_id.encode(),
                partition,
                timestamp=time_ms,
                headers=[(SENT_AT_HEADER, str(int(time.time() * 1000)).encode())],
                on_delivery=report,
            )
        except BufferError as error:
            self._refuse(waiting, str(error))
        except KafkaException as error:
            self._refuse(waiting, error.args[0].str())

    def _ask(self) -> None:
        """Ask Redis for the users whose events are not readable yet."""
        asked = sorted({each.partition for each in self._waiting if each.offset >= 0})
        if not asked:
            return
        try:
            answers = self._reader.read([self._users[partition] for partition in asked])
        except (redis.RedisError, TwintideError) as error:
            self._note_error(f"Redis gives no vectors: {error}")
            return
        now = self._timer()
        # What stands in for a user without vectors has an offset that is not theirs.
        known = {
            partition: answer.seq
            for partition, answer in zip(asked, answers, strict=True)
            if answer.reason in ("", "long")
        }
        for each in self._waiting:
            if 0 <= each.offset <= known.get(each.partition, -1):
                self._measure(each, now - each.sent_at_s)
        self._waiting = [
            each for each in self._waiting if not 0 <= each.offset <= known.get(each.partition, -1)
        ]

    def _measure(self, event: Waiting, seconds: float) -> None:
        self.found.readable += 1
        if event.partition in self._losing:
            logger.info("events of partition %d are readable again", event.partition)
            self._losing.remove(event.partition)
        self.found.seconds.append(seconds)
        metrics.seconds.observe(seconds)
        metrics.events_total.labels(event.partition, "readable").inc()

    def _give_up(self) -> None:
        """Count as lost what has waited for too long."""
        latest = self._timer() - self._settings.lost_after_s
        for each in [each for each in self._waiting if each.sent_at_s < latest]:
            self._waiting.remove(each)
            if each.offset < 0:
                self._count(self.found.refused, each.partition, "refused")
                self._note_error("Kafka does not say whether it took an event")
            else:
                self._count(self.found.lost, each.partition, "lost")
                if each.partition not in self._losing:
                    logger.warning(
                        "the event at offset %d of partition %d is not readable after %g s; others there may "
                        "follow",
                        *(each.offset, each.partition, self._settings.lost_after_s),
                    )
                self._losing.add(each.partition)

    def _refuse(self, event: Waiting, reason: str) -> None:
        if event in self._waiting:
            self._waiting.remove(event)
            self._count(self.found.refused, event.partition, "refused")
            self._note_error(f"Kafka did not take an event: {reason}")

    def _count(self, counts: dict[int, int], partition: int, result: str) -> None:
        counts[partition] = counts.get(partition, 0) + 1
        metrics.events_total.labels(partition, result).inc()

    def _note_error(self, error: str) -> None:
        """Say it once, not with every event."""
        if error != self.found.last_error:
            logger.warning("%s", error)
        self.found.last_error = error

    def _show(self) -> None:
        now, oldest = self._timer(), dict.fromkeys(range(len(self._users)), 0.0)
        for each in self._waiting:
            oldest[each.partition] = max(oldest[each.partition], now - each.sent_at_s)
        for partition, seconds in oldest.items():
            metrics.waiting_seconds.labels(partition).set(seconds)
