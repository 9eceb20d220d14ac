"""The trainer on a running deployment: what the stream holds is learned, published, and served."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import redis
from click.testing import CliRunner, Result

from local.proof import wait_until_committed
from local.worker import WorkerProcess, worker_environment
from models.artifact.artifact import Artifact, load
from offline import train, trainer
from stream.settings import Settings
from stream.store.model_registry import ModelRegistry
from tests.integration.shop import Shop

pytestmark = pytest.mark.integration


def invoke(command: ModuleType, settings: Settings, *options: object) -> Result:
    return CliRunner().invoke(command.main, [*map(str, options)], env=worker_environment(settings))


def test_new_events_are_learned_from_the_stream_and_the_worker_serves_what_comes_of_it(
    shop: Shop,
    settings: Settings,
    artifact: Artifact,
    tmp_path: Path,
    redis_client: "redis.Redis",
    until: Callable[..., None],
) -> None:
    store = tmp_path / "store"
    shutil.copytree(artifact.path.parent, store, symlinks=True)
    settings = replace(settings, artifact=store)
    registry = ModelRegistry(redis_client, settings.key_prefix)

    def is_served() -> bool:
        models = registry.read()
        return models is not None and models.serving.version == load(store).version

    worker = WorkerProcess(tmp_path / "worker", worker_environment(settings))
    try:
        worker.start()
        shop.send(4_000)
        wait_until_committed(settings, timeout_s=120)
        (tmp_path / "fast.toml").write_text("dimension = 16\nbatch_size = 4\n")
        options = ["--save-dir", store, "--epochs", 2, "--config", tmp_path / "fast.toml"]
        assert invoke(train, settings, "--from-stream", *options).exit_code == 0
        until(is_served, timeout_s=120)
        before = load(store)
        shop.send(2_000, first=4_000)
        wait_until_committed(settings, timeout_s=120)

        done = invoke(trainer, settings, "--once")
        assert done.exit_code == 0, done.output
        assert done.stdout.startswith("published: model="), done.stdout
        assert load(store).training["continued_from"] == before.version
        until(is_served, timeout_s=120)
        again = invoke(trainer, settings, "--once")
        assert (again.exit_code, again.stdout.split()[0]) == (0, "0"), again.output
    finally:
        worker.kill()
