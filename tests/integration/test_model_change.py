"""A change of models under load: no reader ever notices, and going back takes no time."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import redis
import torch
from click.testing import CliRunner, Result

from local.proof import VECTOR_TOLERANCE, prove, wait_until_committed
from local.worker import WorkerProcess, worker_environment
from models.artifact import artifact as artifacts
from models.artifact.artifact import Artifact
from models.artifact.settings import ArtifactSettings
from models.ids.vocabulary import Vocabulary
from models.ids.vocabulary_file import FIRST_KNOWN
from models.location import Location
from models.towers.dual_towers import DualTowers
from models.towers.settings import ModelSettings
from models.windows.histories import histories_of_windows
from models.windows.window import Window, WindowSettings, window_to_bytes
from offline.publish import main
from stream.serving.reader import Reader, UserVectors
from stream.settings import Settings
from stream.store.keys import category_key
from stream.store.model_registry import ModelRegistry
from stream.store.registry_state import Models
from stream.store.vectors import Vector
from tests.integration.shop import Shop

pytestmark = pytest.mark.integration

USERS = [f"user {number}#ü" for number in range(40)]
CATEGORY = "c1"


def make(store: Location, seed: int, max_events: int = 110, others: int = 0) -> Artifact:
    """Return an artifact with random weights, not published; so many other categories stand before c0."""
    torch.manual_seed(seed)
    known = [item for item in range(70) if item % 7]
    vocabulary = Vocabulary(
        [f"i{item}" for item in known],
        [FIRST_KNOWN + others + item % 3 for item in known],
        [*(f"other {number}" for number in range(others)), "c0", CATEGORY, "c2"],
    )
    settings = ArtifactSettings(WindowSettings(max_events), model=ModelSettings(dimension=16))
    towers = DualTowers(vocabulary, settings.features, settings.model)
    return artifacts.save(store, towers, vocabulary, settings, {}, {})


@pytest.fixture
def two(tmp_path: Path) -> tuple[Artifact, Artifact]:
    """Give two models in a store that publishes the first."""
    first, second = make(tmp_path / "artifacts", 1), make(tmp_path / "artifacts", 2)
    artifacts.publish(tmp_path / "artifacts", first.version)
    return first, second


@pytest.fixture
def following(shop: Shop, settings: Settings, two: tuple[Artifact, Artifact], tmp_path: Path) -> Settings:
    """Give a shop whose workers follow that store; settings of its own."""
    shop.settings = replace(settings, artifact=tmp_path / "artifacts")
    return shop.settings


@contextmanager
def running(
    count: int, settings: Settings, directory: Path, **variables: str
) -> Iterator[list[WorkerProcess]]:
    environment = {**worker_environment(settings), **variables}
    workers = [WorkerProcess(directory / f"w{number}", environment, f"w{number}") for number in range(count)]
    try:
        for worker in workers:
            worker.start(wait=False)
        deadline = time.monotonic() + 120
        while not all(worker.is_ready() for worker in workers):
            assert time.monotonic() < deadline, [worker.health() for worker in workers]
            time.sleep(0.1)
        yield workers
    finally:
        for worker in workers:
            worker.kill()


def at_category(artifact: Artifact) -> Vector:
    """Return what the model makes of a first view in CATEGORY, of an item that it does not know."""
    window = Window("topic", 0, 0, 1, 0, 0, [1_417_000_000_000], [1], ["new"], [CATEGORY], [1])
    histories = histories_of_windows([window_to_bytes(window)], artifact.vocabulary)
    vector: Vector = artifact.encode(histories).user[0]
    return vector


def read_nobody(settings: Settings, client: "redis.Redis") -> UserVectors:
    """Return what a cold-start user gets at CATEGORY."""
    (found,) = Reader(client, key_prefix=settings.key_prefix).read(["nobody"], CATEGORY)
    return found


def models(registry: ModelRegistry) -> Models:
    """Return which models there are; one was served before."""
    found = registry.read()
    assert found is not None
    return found


class Hammer(threading.Thread):
    """A ranker that reads without a pause, and remembers whatever is not as it should be."""

    def __init__(self, settings: Settings, *models: Artifact) -> None:
        super().__init__(daemon=True)
        self._at_category = {each.version: at_category(each) for each in models}
        self.reads = 0
        self.wrong: list[str] = []
        #: When each model was first read, in order.
        self.models: list[tuple[str, float]] = []
        self._reader = Reader(redis.Redis.from_url(settings.redis.url), key_prefix=settings.key_prefix)
        self._is_over = threading.Event()

    def run(self) -> None:
        while not self._is_over.is_set():
            found = self._reader.read([*random.sample(USERS, 20), "nobody"], CATEGORY)
            self._judge(found[:-1], found[-1])
            self.reads += 1

    def finish(self) -> None:
        self._is_over.set()
        self.join()
        assert self.reads > 100
        assert not self.wrong, self.wrong[:5]

    def _judge(self, known: list[UserVectors], nobody: UserVectors) -> None:
        if nobody.reason != "category":
            self.wrong.append(f"nobody: {nobody.reason}")
        elif not np.allclose(nobody.vec, self._at_category[nobody.model], atol=VECTOR_TOLERANCE):
            self.wrong.append(f"nobody of {nobody.model}: {nobody.vec}")
        versions = {each.model for each in (*known, nobody)}
        if len(versions) > 1:
            self.wrong.append(f"mixed: {versions}")
        self.wrong += [f"{each.user_id}: {each.reason}" for each in known if each.reason]
        if not self.models or self.models[-1][0] != known[0].model:
            self.models.append((known[0].model, time.monotonic()))


def publish(settings: Settings, *arguments: object) -> Result:
    return CliRunner().invoke(main, [str(each) for each in arguments], env=worker_environment(settings))


def is_right(shop: Shop, artifact: Artifact) -> None:
    """Assert that every user's vector of this model, live beside whichever, is that of all their events."""
    proof = prove(shop.settings, published=shop.published)
    assert proof.is_ok, (artifact.version, proof.complaint)
    assert artifact.version in proof.models


def test_no_reader_notices_a_change_of_models_under_load_nor_the_way_back(
    shop: Shop,
    following: Settings,
    two: tuple[Artifact, Artifact],
    tmp_path: Path,
    until: Callable[..., None],
) -> None:
    first, _ = two
    second = make(tmp_path / "artifacts", 4, others=3_000)  # which take longer to write than all users
    with running(2, following, tmp_path, TWINTIDE_KEEP_PREVIOUS_S="20"):
        shop.send(1_000)
        wait_until_committed(following, timeout_s=120)
        until(lambda: read_nobody(following, shop.client).reason == "category")
        hammer = Hammer(following, first, second)
        hammer.start()
        with shop.load(first=1_000):
            done = publish(following, second.path, "--wait")
            assert done.exit_code == 0, done.output
            time.sleep(1)
            started = time.monotonic()
            back = publish(following, "--rollback")
            until(lambda: hammer.models[-1][0] == first.version)
            print(f"rollback in {hammer.models[-1][1] - started:.3f} s; {done.stdout}")
            assert back.exit_code == 0, back.output
            time.sleep(2)
        hammer.finish()
        assert [version for version, _ in hammer.models] == [first.version, second.version, first.version]
        shop.flush()
        wait_until_committed(following, timeout_s=120)
        is_right(shop, first)
        is_right(shop, second)  # kept, and kept fresh
        registry = ModelRegistry(shop.client, following.key_prefix)
        until(lambda: not models(registry).previous)
        until(lambda: registry.progress().cleaned_up == models(registry).generation)
        keys = [following.key_prefix + user_id for user_id in USERS]
        for key in [*keys, category_key(following.key_prefix, CATEGORY)]:
            stored = cast("dict[bytes, bytes]", shop.client.hgetall(key))
            assert stored[b"model"] == first.version.encode()
            assert not [name for name in stored if name.startswith(b"other:")]


def test_change_goes_on_when_a_worker_is_killed_in_its_midst(
    shop: Shop,
    following: Settings,
    two: tuple[Artifact, Artifact],
    tmp_path: Path,
    until: Callable[..., None],
) -> None:
    _, second = two
    with running(2, following, tmp_path, TWINTIDE_REWRITE_USERS_PER_S="5") as workers:
        shop.send(1_000)
        wait_until_committed(following, timeout_s=120)
        registry = ModelRegistry(shop.client, following.key_prefix)
        assert publish(following, second.path).exit_code == 0
        until(lambda: registry.progress().covered)
        workers[1].kill()
        assert models(registry).serving.version != second.version
        shop.send(500, first=1_000)
        until(lambda: models(registry).serving.version == second.version, timeout_s=120)
        wait_until_committed(following, timeout_s=120)
        is_right(shop, second)


def test_emptied_redis_is_written_again_and_a_model_that_does_not_fit_is_refused(
    shop: Shop,
    following: Settings,
    two: tuple[Artifact, Artifact],
    tmp_path: Path,
    until: Callable[..., None],
) -> None:
    first, _ = two
    other = make(tmp_path / "artifacts", 3, max_events=50)
    with running(1, following, tmp_path) as (worker,):
        shop.send(1_000)
        wait_until_committed(following, timeout_s=120)
        with shop.load(first=1_000):
            shop.client.flushall()
            refused = publish(following, other.path, "--wait")
            assert refused.exit_code == 1
            assert f"a worker refused model {other.version}" in refused.stderr
            assert "restart the workers" in refused.stderr
        shop.send(10, users=2, first=100_000)  # all others are silent from here on
        wait_until_committed(following, timeout_s=120)
        until(lambda: worker.metrics()["twintide_rewritten_users_total"] >= len(USERS))
        until(lambda: not ModelRegistry(shop.client, following.key_prefix).progress().to_backfill)
        until(lambda: read_nobody(following, shop.client).reason == "category")
        assert np.allclose(read_nobody(following, shop.client).vec, at_category(first), atol=VECTOR_TOLERANCE)
        is_right(shop, first)
