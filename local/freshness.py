"""How long from sending an event until another process can read a vector that knows it.

The probe is that other process: it follows the topic on its own, and for a sample of the events asks Redis
again and again until the user's `seq` has reached the event's offset. It shares nothing with the worker.
"""

import threading
import time
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import redis
from confluent_kafka import Consumer, Message, TopicPartition

from stream.events.incoming import sent_at_ms
from stream.kafka.assigned_consumer import assigned_consumer
from stream.kafka.topics import end_offsets
from stream.settings import Settings

#: Pause between two polls of Redis (s): no measurement can be more exact.
PROBE_EVERY_S = 0.005
#: Events whose vectors one poll asks for, the oldest first: more would add to the load that is measured.
ASKED_FOR = 500


@dataclass(frozen=True, slots=True)
class Waiting:
    """A sampled event whose vector is not readable yet."""

    key: str
    partition: int
    offset: int
    sent_at_ms: int


class FreshnessProbe:
    """Measures in a thread of its own, between `start` and `stop`."""

    def __init__(self, settings: Settings, client: "redis.Redis", sample_every: int = 1) -> None:
        self._settings = settings
        self._client = client
        self._sample_every = sample_every
        #: Events seen on the topic.
        self.seen = 0
        #: Offsets seen of each user's key, oldest first.
        self._offsets: dict[str, list[int]] = defaultdict(list)
        self._seconds: list[float] = []
        self._sent_at_s: list[float] = []
        #: The events of `timed`.
        self.measured: list[Waiting] = []
        self._stopping = threading.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="freshness", daemon=True)

    def start(self) -> None:
        """Begin at the end of the topic as it is now."""
        self._thread.start()
        self._ready.wait(timeout=30)

    def stop(self, drain_s: float = 5.0) -> None:
        """Give what still waits a moment, then end."""
        time.sleep(drain_s)
        self._stopping.set()
        self._thread.join(timeout=10)

    @property
    def samples(self) -> int:
        """Return how many events were measured so far."""
        return len(self._seconds)

    def readable(self) -> int:
        """Return how many of all events seen are known to their users' vectors by now."""
        pipeline = self._client.pipeline(transaction=False)
        for key in self._offsets:
            pipeline.hget(key, "seq")
        known = [int(seq if seq is not None else -1) for seq in pipeline.execute()]
        of_users = zip(self._offsets.values(), known, strict=True)
        return sum(bisect_right(offsets, seq) for offsets, seq in of_users)

    @property
    def timed(self) -> list[tuple[float, float]]:
        """Return of each event measured when it was sent (epoch s) and how long it took (s)."""
        return list(zip(self._sent_at_s, self._seconds, strict=False))

    def percentiles_ms(self, quantiles: Sequence[float] = (50, 99), last: int | None = None) -> list[float]:
        """Return percentiles of all measured events, or of the last so many (ms); NaN where there is none."""
        seconds = self._seconds[-last:] if last else self._seconds
        if not seconds:
            return [float("nan")] * len(quantiles)
        return [float(value) * 1000 for value in np.percentile(seconds, quantiles)]

    def _run(self) -> None:
        consumer = self._consumer_at_end()
        self._ready.set()
        waiting: list[Waiting] = []
        while not self._stopping.is_set():
            for message in consumer.consume(1000, timeout=PROBE_EVERY_S):
                waiting += self._sampled(message)
            waiting = self._still_waiting(waiting)
        consumer.close()

    def _consumer_at_end(self) -> Consumer:
        settings = self._settings
        consumer = assigned_consumer(settings.kafka)
        ends = end_offsets(settings.kafka, settings.topic)
        consumer.assign([TopicPartition(settings.topic, *place) for place in ends.items()])
        consumer.consume(1, timeout=1.0)  # connects
        return consumer

    def _sampled(self, message: Message) -> list[Waiting]:
        self.seen += 1
        if message.key() is None:
            return []
        key = self._settings.key_prefix + message.key().decode()
        self._offsets[key].append(message.offset())
        sent = 0 if self.seen % self._sample_every else sent_at_ms(message.headers() or ())
        return [Waiting(key, message.partition(), message.offset(), sent)] if sent else []

    def _still_waiting(self, waiting: list[Waiting]) -> list[Waiting]:
        if not waiting:
            return waiting
        oldest = waiting[:ASKED_FOR]
        pipeline = self._client.pipeline(transaction=False)
        for each in oldest:
            pipeline.hget(each.key, "seq")
        try:
            known = [int(seq if seq is not None else -1) for seq in pipeline.execute()]
        except redis.RedisError:  # it is down: ask again with the next poll
            return waiting
        now = time.time()
        still = []
        for each, seq in zip(oldest, known, strict=True):
            if seq >= each.offset:
                self._seconds.append(now - each.sent_at_ms / 1000)
                self._sent_at_s.append(each.sent_at_ms / 1000)
                self.measured.append(each)
            else:
                still.append(each)
        return still + waiting[ASKED_FOR:]
