"""The serving API beside a worker, on real servers, while the model changes and Redis is killed."""

import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import numpy as np
import pytest
import redis
import torch

from local.redis import RedisServer
from local.serving import ServingProcess
from local.worker import WorkerProcess, worker_environment
from models.artifact import artifact as artifacts
from models.artifact.artifact import Artifact
from models.rankers.artifact import save_ranker, scores_of
from models.rankers.base import RankerModule
from models.rankers.kinds import make_ranker
from models.rankers.settings import RankerSettings
from models.towers.dual_towers import DualTowers
from models.windows.histories import Histories
from stream.encoding.encoder import Encoder
from stream.kafka.topics import end_offsets, topic_id
from stream.serving import Reader
from stream.settings import Settings
from stream.store.connection import RedisConnection
from stream.store.vector_store import Store, StoreSettings
from tests.integration.shop import ITEMS, Shop

pytestmark = pytest.mark.integration

USERS = 20
CANDIDATES = [f"i{item}" for item in range(0, ITEMS, 4)]
NOW_MS = 1_417_100_000_000


@pytest.fixture
def redis_connection(redis_server: RedisServer) -> RedisConnection:
    """Give the connection to our own Redis, which this test kills."""
    return RedisConnection(redis_server.url)


@pytest.fixture
def settings(settings: Settings, artifact: Artifact, tmp_path: Path) -> Settings:
    """Give settings with a store of artifacts of this test's own, where it may publish."""
    store = tmp_path / "artifacts"
    towers = artifacts.save(store, artifact.towers, artifact.vocabulary, artifact.settings, {}, {"of": "us"})
    artifacts.publish(store, towers.version)
    return replace(settings, artifact=store)


@dataclass
class Shown:
    """A ranker that is published, and what it gives offline."""

    where: Path
    module: RankerModule
    artifact: Artifact

    def scores(self, numbers: list[int]) -> dict[str, float]:
        """Return each candidate's score, in torch, after the events of `Shop.send` of these numbers."""
        known = self.artifact.vocabulary
        items = known.item_indices([f"i{number * 13 % ITEMS}" for number in numbers])
        given = known.category_indices([f"c{number % 3}" for number in numbers])
        history = Histories(
            items,
            known.categories_of(items, given),
            np.array([1 + number % 4 for number in numbers], np.uint8),
            np.array([1_417_000_000_000 + number * 60_000 for number in numbers], np.int64),
            np.array([0, len(numbers)]),
        )
        item = known.item_indices(CANDIDATES)
        category = known.categories_of(item, known.category_indices([""] * len(CANDIDATES)))
        found = scores_of(self.module, history, np.array([NOW_MS]), item[None], category[None])[0]
        return dict(zip(CANDIDATES, found.tolist(), strict=True))


@pytest.fixture
def ranker(artifact: Artifact, tmp_path: Path) -> Shown:
    torch.manual_seed(0)
    made = make_ranker(
        artifact.vocabulary, RankerSettings(max_events=10, item_dimension=8, category_dimension=8)
    )
    version = save_ranker(tmp_path / "rankers", made, artifact.vocabulary, {}, {}).version
    return Shown(tmp_path / "rankers" / version, made.eval(), artifact)


@pytest.fixture
def worker(settings: Settings, tmp_path: Path) -> Iterator[WorkerProcess]:
    environment = worker_environment(settings) | {"TWINTIDE_STORE_HISTORY": "10"}
    process = WorkerProcess(tmp_path / "worker", environment)
    yield process
    process.kill()


@pytest.fixture
def serving(settings: Settings, ranker: Shown, tmp_path: Path) -> Iterator[ServingProcess]:
    environment = worker_environment(settings) | {
        "TWINTIDE_RANKER": str(ranker.where),
        "TWINTIDE_DRAIN_S": "30",
    }
    process = ServingProcess(tmp_path / "serving", environment)
    yield process
    process.kill()


@dataclass
class Callers:
    """Asks for recommendations again and again, until the block ends."""

    serving: ServingProcess
    users: list[str]
    answers: list[tuple[int, Any]] = field(default_factory=list)

    def __enter__(self) -> "Callers":
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(3)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        body = {"users": [{"user_id": user, "k": 3} for user in self.users]}
        while not self._is_over.is_set():
            self.answers.append(self.serving.ask("/recommend", body))

    def models(self) -> set[str]:
        """Return the models that users were answered by."""
        return {user["model"] for _, answer in self.answers for user in answer.get("users", [])}


def test_scores_are_the_offline_ones_after_each_event_and_no_answer_mixes_models_or_hides_a_dead_redis(
    settings: Settings,
    worker: WorkerProcess,
    serving: ServingProcess,
    shop: Shop,
    ranker: Shown,
    redis_client: "redis.Redis",
    redis_server: RedisServer,
    until: Callable[..., None],
) -> None:
    worker.start()
    shop.send(200, users=USERS)
    until(lambda: len(shop.users_with_vectors()) == USERS)
    serving.start()
    epoch = Reader(redis_client, key_prefix=settings.key_prefix).topic_epoch(
        topic_id(settings.kafka, settings.topic)
    )
    before = end_offsets(settings.kafka, settings.topic)
    for number in range(200, 206):  # one event after the other, each asked for as soon as it is sent
        shop.send(1, users=USERS, first=number)
        after = end_offsets(settings.kafka, settings.topic)
        (offset,) = (end - 1 for partition, end in after.items() if end != before[partition])
        before, user = after, f"user {number * 7 % USERS}#ü"
        asked = {"user_id": user, "candidates": CANDIDATES, "at_least": {"epoch": epoch, "offset": offset}}
        status, answer = serving.ask("/rank", {"users": [asked], "now_ms": NOW_MS, "wait_s": 10})
        assert (status, answer["users"][0]["reason"]) == (200, "")
        events = [each for each in range(number + 1) if each * 7 % USERS == number * 7 % USERS]
        expected = ranker.scores(events)
        found = {item["item_id"]: item["score"] for item in answer["users"][0]["items"]}
        assert found == pytest.approx(expected, abs=1e-4)

    users = [f"user {number}#ü" for number in range(USERS)]
    torch.manual_seed(1)
    old = shop.artifact
    towers = DualTowers(old.vocabulary, old.settings.features, old.settings.model)
    newer = artifacts.save(Path(str(settings.artifact)), towers, old.vocabulary, old.settings, {}, {})
    with Callers(serving, users) as callers:
        until(lambda: callers.answers)
        artifacts.publish(Path(str(settings.artifact)), newer.version)
        until(lambda: callers.answers[-1][1]["users"][0]["model"] == newer.version)
    assert {status for status, _ in callers.answers} == {200}
    assert len(callers.models()) == 2
    for _, answer in callers.answers:
        assert len({user["model"] for user in answer["users"]}) == 1

    redis_server.kill()
    status, answer = serving.ask(f"/vector/{quote(users[0])}")
    assert (status, answer["error"][:22]) == (503, "Redis does not answer:")
    assert serving.ask("/health/live")[0] == 200
    redis_server.start()
    until(lambda: serving.ask("/rank", {"users": [{"user_id": users[0], "candidates": ["i1"]}]})[0] == 200)
    assert serving.metrics()["twintide_serving_redis_errors_total"] >= 1


def reads(client: "redis.Redis") -> int:
    """Return how many HMGETs Redis has answered."""
    found = cast(dict[str, dict[str, int]], client.info("commandstats"))
    return found.get("cmdstat_hmget", {}).get("calls", 0)


def test_requests_that_have_begun_are_answered_when_it_is_stopped(
    settings: Settings, serving: ServingProcess, redis_client: "redis.Redis", until: Callable[..., None]
) -> None:
    towers = artifacts.load(Path(str(settings.artifact)))
    store = Store(redis_client, StoreSettings(key_prefix=settings.key_prefix))
    store.registry.serve(towers.version, 1)
    store.upsert(Encoder(towers).cold_start_rows())
    serving.start()
    answers: list[tuple[int, Any]] = []
    at_least = {"epoch": 1, "offset": 1}
    asked = {"users": [{"user_id": "u", "candidates": ["i1"], "at_least": at_least}], "wait_s": 5}
    before = reads(redis_client)
    caller = threading.Thread(target=lambda: answers.append(serving.ask("/rank", asked)))
    caller.start()
    until(lambda: reads(redis_client) > before + 15)  # it waits for the user's vector
    serving._signal(signal.SIGTERM)
    caller.join()
    assert [(status, answer["users"][0]["reason"]) for status, answer in answers] == [(200, "cold_start")]
    assert serving.wait(20) == 0
