"""What the tests of the whole path share: a small artifact, settings of a test's own, and events."""

import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis
import torch
from confluent_kafka import Producer

from local.proof import Proof, prove, wait_until_committed
from local.worker import WorkerProcess, worker_environment
from models.artifact import artifact as artifacts
from models.artifact.artifact import Artifact
from models.ids.vocabulary import Vocabulary
from models.towers.dual_towers import DualTowers, ModelSettings
from stream.kafka.connection import KafkaConnection
from stream.kafka.topics import ensure_topic
from stream.settings import Settings
from stream.store.connection import RedisConnection

#: Items of the events below; every seventh is unknown to the model.
ITEMS = 70


def _until(condition: Callable[[], object], timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.1)


@pytest.fixture
def until() -> Callable[..., None]:
    """Give a function that returns when a condition holds, and fails the test where it never does."""
    return _until


@pytest.fixture(scope="session")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """Give a published artifact with random weights: the path must be right for any."""
    torch.manual_seed(0)
    known = [item for item in range(ITEMS) if item % 7]
    vocabulary = Vocabulary(
        [f"i{item}" for item in known], [2 + item % 3 for item in known], ["c0", "c1", "c2"]
    )
    settings = artifacts.ArtifactSettings(model=ModelSettings(dimension=16))
    towers = DualTowers(vocabulary, settings.features, settings.model)
    store = tmp_path_factory.mktemp("artifacts")
    saved = artifacts.save(store, towers, vocabulary, settings, {}, {})
    artifacts.publish(store, saved.version)
    return artifacts.load(store)


@pytest.fixture
def settings(kafka: KafkaConnection, redis_connection: RedisConnection, artifact: Artifact) -> Settings:
    """Give settings whose topics, group and keys are this test's alone."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    return Settings(
        kafka=kafka,
        redis=redis_connection,
        artifact=artifact.path.parent,
        app_id=name,
        topic=f"{name}-events",
        dead_letter_topic=f"{name}-dlq",
        key_prefix=f"{name}:",
    )


@pytest.fixture
def worker(settings: Settings, tmp_path: Path) -> Iterator[WorkerProcess]:
    """Give a worker with these settings, not yet started, and stop it at the end."""
    process = WorkerProcess(tmp_path / "worker", worker_environment(settings))
    yield process
    process.kill()


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

    def send_raw(self, key: bytes | None, value: bytes | None) -> None:
        """Publish any bytes."""
        self._producer.produce(self.settings.topic, value, key)
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

    def prove(self) -> Proof:
        """Wait until the worker has committed everything, and compare servers and reference."""
        self._producer.flush()
        wait_until_committed(self.settings, timeout_s=90)
        return prove(self.settings, published=self.published)


@pytest.fixture
def shop(settings: Settings, redis_client: "redis.Redis", artifact: Artifact) -> Shop:
    """Give a shop whose topic exists and is empty."""
    return Shop(settings, redis_client, artifact)
