"""What the tests of the whole path share: a small artifact, settings of a test's own, and events."""

import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
import torch

from local.worker import WorkerProcess, worker_environment
from models.artifact import artifact as artifacts
from models.artifact.artifact import Artifact
from models.artifact.settings import ArtifactSettings
from models.ids.vocabulary import Vocabulary
from models.towers.dual_towers import DualTowers
from models.towers.settings import ModelSettings
from stream.kafka import librdkafka
from stream.kafka.connection import KafkaConnection
from stream.settings import Settings
from stream.store.connection import RedisConnection
from tests.integration.shop import ITEMS, Shop

#: What rekeys where librdkafka's C interface cannot be found.
REKEY_BY_MESSAGES = """
from pathlib import Path
from stream.kafka import librdkafka
librdkafka.MAPS = Path("/nowhere")
from stream.rekey import main
main()
"""


def _until(condition: Callable[[], object], timeout_s: float = 120.0) -> None:
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
    settings = ArtifactSettings(model=ModelSettings(dimension=16))
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


@pytest.fixture
def shop(settings: Settings, redis_client: "redis.Redis", artifact: Artifact) -> Shop:
    """Give a shop whose topic exists and is empty."""
    return Shop(settings, redis_client, artifact)


@pytest.fixture(params=["columns", "messages"])
def rekey_command(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Give how Python rekeys: by librdkafka's C interface, or where that cannot be found, here too."""
    if request.param == "messages":
        monkeypatch.setattr(librdkafka, "MAPS", Path("/nowhere"))
    librdkafka.loaded_library.cache_clear()
    yield ["-m", "stream.rekey"] if request.param == "columns" else ["-c", REKEY_BY_MESSAGES]
    librdkafka.loaded_library.cache_clear()
