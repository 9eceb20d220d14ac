"""Publishing a turned copy, and a rollback that is not kept waiting."""

import subprocess
import sys
from pathlib import Path

import pytest
import redis
import torch
from click.testing import CliRunner, Result

from models.artifact import artifact as artifacts
from models.artifact.artifact import Artifact
from models.artifact.local_store import LocalStore
from models.artifact.rotation import common_items, mean_cosine
from models.artifact.settings import ArtifactSettings
from models.ids.vocabulary import Vocabulary
from models.towers.dual_towers import DualTowers
from models.towers.settings import ModelSettings
from offline.publish import main
from stream.store.connection import RedisConnection
from stream.store.model_registry import ModelRegistry

PREFIX = "test-publish:"


def make(store: Path, seed: int) -> Artifact:
    vocabulary = Vocabulary([f"i{number}" for number in range(30)], [2] * 30, ["c"])
    settings = ArtifactSettings(model=ModelSettings(dimension=16))
    torch.manual_seed(seed)
    towers = DualTowers(vocabulary, settings.features, settings.model)
    with torch.no_grad():
        for parameter in towers.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return artifacts.save(store, towers, vocabulary, settings, {}, {})


def publish(connection: RedisConnection, store: Path, *arguments: str) -> Result:
    environment = {"REDIS_URL": connection.url, "TWINTIDE_ARTIFACT": str(store / "current")}
    environment["TWINTIDE_KEY_PREFIX"] = PREFIX
    return CliRunner().invoke(main, arguments, env=environment)


@pytest.mark.integration
def test_a_turned_copy_is_published_and_lies_nearer_to_the_model_that_serves(
    redis_connection: RedisConnection, redis_client: redis.Redis, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    serving, new = make(store, 1), make(store, 2)
    artifacts.publish(store, serving.version)
    registry = ModelRegistry(redis_client, PREFIX)
    redis_client.delete(registry.key)
    refused = publish(redis_connection, store, str(new.path), "--rotate")
    assert refused.exit_code == 1
    assert "no model serves" in refused.output
    registry.serve(serving.version, 1)
    done = publish(redis_connection, store, str(new.path), "--rotate")
    assert done.exit_code == 0, done.output
    published = artifacts.load(store / LocalStore(store).current().version)
    assert published.version not in (serving.version, new.version)
    near, far = (mean_cosine(*common_items(each, serving)) for each in (published, new))
    assert near > far
    assert f"mean_cosine={far:.3f} -> {near:.3f}" in done.output


@pytest.mark.parametrize("path", ["none/current", "empty", "one artifact"])
def test_what_no_worker_follows_is_refused_with_the_reason(tmp_path: Path, path: str) -> None:
    (tmp_path / "empty").mkdir()
    make(tmp_path, 1).path.rename(tmp_path / "one artifact")
    environment = {"TWINTIDE_ARTIFACT": str(tmp_path / path), "REDIS_URL": "redis://localhost:1"}
    refused = CliRunner().invoke(main, [str(tmp_path / "one artifact")], env=environment)
    what = "one artifact by itself" if path == "one artifact" else "where there is no store of artifacts"
    assert refused.exit_code == 2
    assert f"TWINTIDE_ARTIFACT is {tmp_path / path}, {what}" in refused.stderr


def test_rollback_imports_neither_torch_nor_numpy() -> None:
    code = "import sys; sys.modules.update(torch=None, numpy=None)\nimport offline.publish"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_rollback_is_not_turned() -> None:
    done = CliRunner().invoke(main, ["--rollback", "--rotate"])
    assert done.exit_code == 2
