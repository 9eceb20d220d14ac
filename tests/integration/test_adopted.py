"""A model that others trained, from its files to rankers: real Kafka, Redis and worker."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import redis
from click.testing import CliRunner

from local.worker import WorkerProcess, worker_environment
from models.artifact import artifact as artifacts
from models.artifact.artifact import Artifact
from offline.adopt import main
from stream.serving.reader import Reader
from stream.serving.recommender import Recommender
from stream.settings import Settings
from stream.store.model_registry import ModelRegistry
from tests.integration.shop import ITEMS, Shop
from tests.tiny_encoder import TABLE, TinyEncoder, by_hand

pytestmark = pytest.mark.integration

USERS = 40


def history_of(user: str, events: int) -> tuple[list[str], list[int]]:
    """Return items and times of a user's events among the first so many of `Shop.send`."""
    numbers = [each for each in range(events) if f"user {each * 7 % USERS}#ü" == user]
    items = [f"i{each * 13 % ITEMS}" for each in numbers]
    return items, [1_417_000_000_000 + each * 60_000 for each in numbers]


def test_adopted_model_takes_over_from_dual_towers_and_its_vectors_are_its_librarys_own(
    shop: Shop,
    settings: Settings,
    artifact: Artifact,
    redis_client: "redis.Redis",
    tmp_path: Path,
    until: Callable[..., None],
) -> None:
    store = tmp_path / "artifacts"
    towers = artifacts.save(
        store, artifact.towers, artifact.vocabulary, artifact.settings, {}, {"of": "test"}
    )
    artifacts.publish(store, towers.version)
    shop.settings = settings = replace(settings, artifact=store)
    worker = WorkerProcess(tmp_path / "worker", worker_environment(settings))
    registry = ModelRegistry(redis_client, settings.key_prefix)
    try:
        worker.start()
        shop.send(400)
        until(lambda: len(shop.users_with_vectors()) == USERS)
        given = TinyEncoder().write(tmp_path)
        files = {"encoder": given.encoder, "items": given.items, "vocabulary": given.vocabulary}
        arguments = [text for name, file in files.items() for text in (f"--{name}", str(file))]
        done = CliRunner().invoke(main, [*arguments, "--padding", "left", "--out", str(store)])
        assert done.exit_code == 0, done.output
        adopted = artifacts.load(store)

        def serving() -> bool:
            models = registry.read()
            return models is not None and models.serving.version == adopted.version

        until(serving, 60)
        shop.send(300, first=400)
        found = shop.prove()
        assert found.is_ok, found.complaint
        assert (found.applied, set(found.models)) == (700, {towers.version, adopted.version})

        reader = Reader(redis_client, key_prefix=settings.key_prefix)
        users = [f"user {number}#ü" for number in range(USERS)]
        for user, read in zip(users, reader.read(users), strict=True):
            np.testing.assert_allclose(read.vec, by_hand(*history_of(user, 700)), atol=1e-5)
            assert (read.model, read.reason, len(read.long), len(read.short)) == (adopted.version, "", 0, 0)
        (stranger,) = reader.read(["nobody"])
        assert (stranger.reason, np.abs(stranger.vec).max()) == ("cold_start", 0)

        best = Recommender(reader, store).recommend(users[0], k=5)
        scores = TABLE[1:] @ by_hand(*history_of(users[0], 700))
        expected = [adopted.item_ids[place] for place in np.argsort(-scores, kind="stable")[:5]]
        assert best.item_ids == expected
    finally:
        worker.kill()
