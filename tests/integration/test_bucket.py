"""A worker and a ranker whose artifacts are in a bucket: they follow it, and outlive it."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import redis

from local.object_storage import ObjectStorageServer
from models.artifact.artifact import Artifact, publish
from models.artifact.bucket import Bucket
from models.location import BucketUrl
from models.model_files import WEIGHTS
from stream.serving import Reader, Recommender
from stream.settings import Settings
from stream.store.model_registry import ModelRegistry
from tests.integration.shop import Shop
from tests.integration.test_model_change import make, running
from tests.integration.test_worker import refused

pytestmark = pytest.mark.integration


@pytest.fixture
def own_storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStorageServer]:
    """Give an object store that a test may stop."""
    server = ObjectStorageServer(tmp_path / "object-storage" / "data")
    try:
        server.start()
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "trainer"))
        yield server
    finally:
        server.kill()


@pytest.fixture
def store(own_storage: ObjectStorageServer) -> BucketUrl:
    """Give the place of a store in its bucket."""
    return BucketUrl("s3", "shop", ("artifacts",))


@pytest.fixture
def following(shop: Shop, settings: Settings, store: BucketUrl) -> Settings:
    """Give a shop whose workers follow that store; settings of its own."""
    shop.settings = replace(settings, artifact=store)
    return shop.settings


def is_served(settings: Settings, client: "redis.Redis", version: str) -> Callable[[], bool]:
    registry = ModelRegistry(client, settings.key_prefix)
    return lambda: (models := registry.read()) is not None and models.serving.version == version


def best(recommender: Recommender, model: Artifact) -> None:
    """Check that a ranker ranks by the model's own vectors."""
    found = recommender.recommend("user 0#ü", k=3)
    assert found.user.model == model.version
    scores = model.item_vectors @ found.user.vec
    assert found.item_ids == [model.item_ids[row] for row in np.argsort(-scores)[:3]]


def test_worker_and_ranker_follow_a_bucket_and_outlive_it(
    shop: Shop, following: Settings, store: BucketUrl, own_storage: ObjectStorageServer,
    redis_client: "redis.Redis", tmp_path: Path, until: Callable[..., None],
) -> None:  # fmt: skip
    first, second = make(store, 1), make(store, 2)
    publish(store, first.version)
    recommender = Recommender(Reader(redis_client, key_prefix=following.key_prefix), str(store))
    with running(1, following, tmp_path, XDG_CACHE_HOME=str(tmp_path / "worker")) as (worker,):
        shop.send(1_000)
        assert shop.prove().is_ok
        best(recommender, first)
        publish(store, second.version)
        until(is_served(following, redis_client, second.version), timeout_s=120)
        best(recommender, second)

        own_storage.kill()
        until(lambda: worker.metrics()["twintide_publication_failures_total"] > 2, timeout_s=120)
        shop.send(1_000, first=1_000)
        assert shop.prove().is_ok
        assert worker.is_ready()
        best(recommender, second)

        own_storage.start()
        publish(store, first.version)
        until(is_served(following, redis_client, first.version), timeout_s=120)
        failures = worker.metrics()["twintide_publication_failures_total"]
    log = worker.process.log.read_text()
    assert 1 <= log.count("what is published cannot be read, and what serves stays") <= failures / 2
    assert "what is published can be read again" in log
    assert "writerwriter" not in log


def test_model_that_the_bucket_holds_in_part_is_refused_and_the_old_one_stays(
    shop: Shop, following: Settings, store: BucketUrl, redis_client: "redis.Redis", tmp_path: Path,
    until: Callable[..., None],
) -> None:  # fmt: skip
    first, second = make(store, 1), make(store, 2)
    publish(store, first.version)
    Bucket(store / second.version).upload(WEIGHTS, (second.path / WEIGHTS).read_bytes()[:-1])
    with running(1, following, tmp_path, XDG_CACHE_HOME=str(tmp_path / "worker")) as (worker,):
        shop.send(500)
        publish(store, second.version)
        registry = ModelRegistry(redis_client, following.key_prefix)
        until(lambda: registry.progress().refused == second.version, timeout_s=120)
        assert f"{store / second.version / WEIGHTS} is damaged" in registry.progress().reason
        assert is_served(following, redis_client, first.version)()
        assert shop.prove().is_ok
        assert worker.is_ready()


def test_worker_that_cannot_read_the_bucket_says_why_in_one_line(
    following: Settings, store: BucketUrl, own_storage: ObjectStorageServer, tmp_path: Path
) -> None:
    settings, environment = following, {**own_storage.environment(), "XDG_CACHE_HOME": str(tmp_path)}
    assert refused(settings, **environment)[1].startswith(f"Error: there is no artifact at {store}")
    wrong = refused(settings, **{**environment, "AWS_SECRET_ACCESS_KEY": "hushhush"})
    assert wrong[0] == 1
    assert wrong[1].startswith(f"Error: {store}/publications.json is refused (SignatureDoesNotMatch")
    own_storage.kill()
    away = refused(settings, **environment)
    assert away[0] == 1
    assert away[1].startswith(f"Error: {store}/publications.json cannot be reached")
