"""What a worker starts with where what is published cannot be used: the model that serves, if any."""

import logging
from pathlib import Path

import pytest
import redis

from models.artifact.stores import open_store
from models.errors import ArtifactError
from stream.encoding.first_model import first_model
from stream.encoding.live_models import ArtifactSource
from stream.settings import Settings
from stream.store.connection import RedisConnection
from stream.store.model_registry import ModelRegistry
from tests.stream.encoding.test_live_models import make

PREFIX = "test-first-model:"


class World:
    """A store whose published version is damaged, and another one that may serve."""

    def __init__(self, store: Path, redis_connection: RedisConnection) -> None:
        self.sound, self.damaged = make(store, 10), make(store, 11)
        for each in (self.sound, self.damaged):
            open_store(store).publish(each.version)
        (self.damaged.path / "weights.safetensors").write_bytes(b"no weights")
        self.settings = Settings(redis=redis_connection, key_prefix=PREFIX, artifact=store)

    def start(self) -> str:
        return first_model(self.settings, ArtifactSource(self.settings.artifact)).version


@pytest.fixture
def registry(redis_client: redis.Redis) -> ModelRegistry:
    found = ModelRegistry(redis_client, PREFIX)
    redis_client.delete(found.key)
    return found


@pytest.mark.integration
def test_worker_starts_with_the_model_that_serves_where_the_published_one_is_damaged(
    tmp_path: Path,
    redis_connection: RedisConnection,
    registry: ModelRegistry,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.ERROR)
    world = World(tmp_path, redis_connection)
    registry.serve(world.sound.version, 1)
    assert world.start() == world.sound.version
    (said,) = caplog.messages
    assert said.startswith(f"what is published cannot be used, and model {world.sound.version}, which serves")
    assert "weights.safetensors is damaged" in said


@pytest.mark.integration
@pytest.mark.parametrize("serving", ["", "itself", "0123456789ab"])
def test_without_another_that_serves_and_is_there_the_reason_is_the_published_ones(
    tmp_path: Path, redis_connection: RedisConnection, registry: ModelRegistry, serving: str
) -> None:
    world = World(tmp_path, redis_connection)
    if serving:
        registry.serve(world.damaged.version if serving == "itself" else serving, 1)
    with pytest.raises(ArtifactError, match=rf"{world.damaged.version}.weights.safetensors is damaged"):
        world.start()


def test_without_redis_the_reason_is_the_published_ones(tmp_path: Path) -> None:
    world = World(tmp_path, RedisConnection("redis://127.0.0.1:1/0", timeout_s=1))
    with pytest.raises(ArtifactError, match=r"weights.safetensors is damaged"):
        world.start()
