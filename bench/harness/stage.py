"""Where a benchmark plays: the servers, names of its own on them, and a directory; all removed at its end."""

import os
import shutil
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.harness.contestants import PeerProcess, WatchedWorker
from bench.harness.topics import remove
from bench.peers.job import Job
from bench.peers.kafka_streams import kafka_streams_command
from bench.peers.quix_environment import quix_python
from local.servers import LOCAL
from local.worker import worker_environment
from stream.kafka.connection import KafkaConnection
from stream.settings import Settings
from stream.store.clients import redis_client
from stream.store.connection import RedisConnection


@dataclass(frozen=True, slots=True)
class Stage:
    """The servers, the prefix of every name on them, and where state and logs go."""

    kafka: KafkaConnection
    redis: RedisConnection
    prefix: str
    directory: Path
    partitions: int

    @property
    def artifact_store(self) -> Path:
        """Return where the worker's artifact is to be published."""
        return self.directory / "artifacts"

    def group(self, name: str) -> str:
        """Return a contestant's consumer group."""
        return f"{self.prefix}-{name}"

    def settings(self, name: str, topic: str) -> Settings:
        """Return the settings of Twintide's workers on a topic, the defaults but for where things are."""
        return Settings(
            kafka=self.kafka,
            redis=self.redis,
            artifact=self.artifact_store,
            app_id=self.group(name),
            topic=topic,
            dead_letter_topic=f"{self.prefix}-dlq",
            key_prefix=f"{self.prefix}-{name}:",
        )

    def worker(self, name: str, topic: str, encode: bool = True, number: int = 1) -> WatchedWorker:
        """Return Twintide's worker on a topic, with its default settings; the `number`-th of its group."""
        environment = {
            **worker_environment(self.settings(name, topic)),
            "TWINTIDE_ENCODE": str(encode).lower(),
        }
        own_name = f"{name}-worker-{number}"
        return WatchedWorker(own_name, self.directory / own_name, environment)

    def peer(self, name: str, topic: str, awaited: str = "first_event") -> PeerProcess:
        """Return a peer on a topic."""
        servers, group = self.kafka.bootstrap_servers, self.group(name)
        job = Job(servers, group, topic, self.partitions, self.directory / name)
        return PeerProcess(name, _COMMANDS[name](), job, awaited)


_COMMANDS: dict[str, Callable[[], list[str]]] = {
    "faust": lambda: [
        *(sys.executable, "-m", "faust", "-A", "bench.peers.faust_app"),
        *("worker", "--without-web", "-l", "warn"),
    ],
    "quix": lambda: [str(quix_python()), "-m", "bench.peers.quix_app"],
    "kafka-streams": kafka_streams_command,
    "kafka-streams-warm": lambda: kafka_streams_command(is_warm=True),
}


@contextmanager
def stage(partitions: int) -> Iterator[Stage]:
    """Give a stage on the servers that the environment names; what failed leaves its logs and state."""
    kafka, redis = KafkaConnection.from_environment(os.environ), RedisConnection.from_environment(os.environ)
    with directory_of_run() as directory:
        here = stage_on(kafka, redis, directory, partitions)
        try:
            yield here
        finally:
            with redis_client(redis) as client:
                remove(kafka, client, here.prefix)


@contextmanager
def directory_of_run() -> Iterator[Path]:
    """Give a directory, which is gone afterwards unless something failed."""
    (LOCAL / "bench").mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="run-", dir=LOCAL / "bench"))
    yield directory
    shutil.rmtree(directory)


def stage_on(kafka: KafkaConnection, redis: RedisConnection, directory: Path, partitions: int) -> Stage:
    """Return a stage on these servers, on which nothing of it is removed."""
    return Stage(kafka, redis, f"bench-{uuid.uuid4().hex[:8]}", directory, partitions)
