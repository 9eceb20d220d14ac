"""A shop that publishes events, and proves what the workers made of them."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import redis
from confluent_kafka import Producer

from local.proof import Proof, prove, wait_until_committed
from models.artifact.artifact import Artifact
from stream.kafka.topics import ensure_topic
from stream.settings import Settings

#: Items of the events below; every seventh is unknown to the model.
ITEMS = 70


@dataclass
class Shop:
    """Publishes events as a shop's producers do, and remembers how many."""

    settings: Settings
    client: "redis.Redis"
    artifact: Artifact
    published: int = 0

    def __post_init__(self) -> None:
        ensure_topic(self.settings.kafka, self.settings.topic, self.settings.partitions)
        self._producer = Producer(
            {
                **self.settings.kafka.librdkafka(),
                "partitioner": "murmur2_random",
                "acks": "all",
                "enable.idempotence": True,  # a broker that comes back must not make one event two
                "message.max.bytes": 10_000_000,
                "log_level": 0,
            }
        )

    def send(self, count: int, users: int = 40, first: int = 0, flush: bool = True) -> None:
        """Publish sound events number `first` and following, of users and items in turn."""
        for number in range(first, first + count):
            user_id = f"user {number * 7 % users}#ü"
            event = {
                "event_id": f"e{number}",
                "user_id": user_id,
                "item_id": f"i{number * 13 % ITEMS}",
                "behavior_type": 1 + number % 4,
                "user_geohash": None,
                "item_category": f"c{number % 3}",
                "time": 1_417_000_000_000 + number * 60_000,
            }
            self.send_raw(user_id.encode(), json.dumps(event).encode())
        if flush:
            self._producer.flush()

    def send_raw(self, key: bytes | None, value: bytes | None, topic: str = "") -> None:
        """Publish any bytes, to another topic than the shop's where one is named."""
        self._producer.produce(topic or self.settings.topic, value, key)
        self._producer.poll(0)
        self.published += 1

    @contextmanager
    def load(self, first: int, users: int = 40, events_per_s: int = 200) -> Iterator[None]:
        """Publish events in a thread until the block ends."""
        is_over = threading.Event()

        def publish() -> None:
            number = first
            while not is_over.wait(0.05):
                self.send(events_per_s // 20, users=users, first=number, flush=False)
                number += events_per_s // 20

        thread = threading.Thread(target=publish)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()

    def users_with_vectors(self) -> set[str]:
        """Return the users of `send` who have a key in Redis."""
        prefix = self.settings.key_prefix
        keys = cast("list[bytes]", self.client.keys(f"{prefix}user *"))
        return {key.decode().removeprefix(prefix) for key in keys}

    def flush(self) -> None:
        """Wait until Kafka has everything."""
        self._producer.flush()

    def prove(self) -> Proof:
        """Wait until the worker has committed everything, and compare servers and reference."""
        self._producer.flush()
        wait_until_committed(self.settings, timeout_s=120)
        return prove(self.settings, published=self.published)
