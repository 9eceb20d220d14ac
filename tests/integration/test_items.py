"""Live items on real servers: from an event to a ranker, exactly once, and never of two models."""

import dataclasses
import json
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import pytest
import redis
import torch
from click.testing import CliRunner
from confluent_kafka import Producer

from local.items import ItemsProcess
from local.kafka import KafkaServer
from local.proof import prove, wait_until_committed
from local.proof.findings import Apart
from local.proof.live_inputs import live_inputs, read_kept_inputs
from local.redis import RedisServer
from local.worker import WorkerProcess, worker_environment
from models.artifact import artifact as artifacts
from models.artifact.artifact import Artifact
from models.artifact.item_vectors import load_item_vectors
from models.artifact.live_items import LiveItemsSettings
from models.artifact.settings import ArtifactSettings
from models.events import CANARY_PREFIX
from models.ids.vocabulary import Vocabulary
from models.items.learner import ItemLearner
from models.items.settings import LearnerSettings
from models.towers.dual_towers import DualTowers
from models.towers.settings import ModelSettings
from models.windows.histories import histories_of_windows
from models.windows.window import Window, window_to_bytes
from stream import forget
from stream.items.following import Following, ItemsSettings
from stream.items.service import Service
from stream.items.snapshots import FencedError, Snapshots, snapshots_topic
from stream.kafka.topics import add_partitions, end_offsets, ensure_topic, partition_counts
from stream.serving.live_items import LiveItems, LiveTable
from stream.serving.read_protocol import Reason, UserVectors
from stream.serving.reader import Reader
from stream.serving.recommender import Recommender
from stream.settings import Settings
from stream.store.item_writer import ReplacedError
from stream.store.model_registry import ModelRegistry
from tests.integration.learning import compile_learner

pytestmark = pytest.mark.integration

KNOWN, NEW = 40, 20
PARTITIONS = 3
START_MS = 1_700_000_000_000
LEARNER = LearnerSettings(remembered_pairs=2_000, negatives=8, recent_events=256)


def make(store: Path, seed: int) -> Artifact:
    torch.manual_seed(seed)
    vocabulary = Vocabulary(
        [f"i{item}" for item in range(KNOWN)], [2 + item % 3 for item in range(KNOWN)], ["c0", "c1", "c2"]
    )
    live = LiveItemsSettings(is_on=True, half_lives_ms=(60_000, 3_600_000), weights=(1.0, 0.5))
    settings = ArtifactSettings(model=ModelSettings(dimension=16), live_items=live)
    towers = DualTowers(vocabulary, settings.features, settings.model)
    return artifacts.save(store, towers, vocabulary, settings, {}, {})


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    store = tmp_path_factory.mktemp("live")
    made = make(store, 0)
    artifacts.publish(store, made.version)
    return made


@pytest.fixture(scope="module", autouse=True)
def compiled(model: Artifact) -> None:
    compile_learner(model, LEARNER)


@pytest.fixture
def live_settings(settings: Settings, model: Artifact) -> Settings:
    ensure_topic(settings.kafka, settings.topic, PARTITIONS)
    return dataclasses.replace(settings, artifact=model.path.parent)


@pytest.fixture
def process(live_settings: Settings, tmp_path: Path) -> Iterator[ItemsProcess]:
    running = ItemsProcess(tmp_path / "items", worker_environment(live_settings), snapshot_s=0.2)
    yield running
    running.kill()


class Clicks:
    """Publishes clicks of many users on known and new items, some late, some twice."""

    def __init__(self, settings: Settings) -> None:
        self._topic, self._random, self._number = settings.topic, random.Random(3), 0
        self._producer = Producer({**settings.kafka.librdkafka(), "acks": "all", "enable.idempotence": True})

    def send(self, count: int) -> None:
        for _ in range(count):
            self._number += 1
            late_ms = 50_000 * (self._random.random() < 0.1)
            user, item = f"u{self._random.randrange(50)}", f"i{self._random.randrange(KNOWN + NEW)}"
            self.click(user, item, int(self._number * 1_000 - late_ms))
        self.flush()

    def click(
        self, user: str, item: str, after_ms: int, category: str = "c1", partition: int | None = None
    ) -> None:
        event = {
            "event_id": f"{user} {item} {after_ms}",
            "user_id": user,
            "item_id": item,
            "behavior_type": 1,
            "item_category": category,
            "time": START_MS + after_ms,
        }
        value = json.dumps(event).encode()
        partition = sum(user.encode()) % PARTITIONS if partition is None else partition
        for _ in range(1 + (self._random.random() < 0.05)):  # a producer that tries again
            self._producer.produce(self._topic, value, user.encode(), partition)

    def control(self, header: str, key: str, partition: int = 0) -> None:
        self._producer.produce(self._topic, None, key.encode(), partition, headers=[(header, b"1")])
        self.flush()

    def flush(self) -> None:
        assert self._producer.flush(30) == 0


@pytest.fixture
def clicks(live_settings: Settings) -> Clicks:
    return Clicks(live_settings)


def follow(settings: Settings, model: Artifact, client: "redis.Redis", snapshot_s: float = 1e9) -> Following:
    return Following(settings, ItemsSettings(0.01, snapshot_s, learner=LEARNER), model, client)


def drain(settings: Settings, following: Following, until_step: int = 2**62) -> None:
    """Learn all there is, or up to a step."""
    ends, deadline = end_offsets(settings.kafka, settings.topic), time.monotonic() + 120
    while following.learner.step < until_step and following.offsets != ends:
        assert time.monotonic() < deadline
        following.step(0.1)


def states_differ(one: ItemLearner, other: ItemLearner) -> list[str]:
    ours, theirs = one.state(), other.state()
    assert ours.keys() == theirs.keys()
    return [name for name in ours if _as_set(name, ours[name]) != _as_set(name, theirs[name])]


def _as_set(name: str, array: "np.ndarray[Any, Any]") -> tuple[Any, ...]:
    is_set = name.startswith("pairs/")
    return array.dtype, array.shape, (np.sort(array) if is_set else array).tobytes()


def test_learner_that_crashed_at_twenty_points_is_the_one_that_never_did(
    live_settings: Settings,
    model: Artifact,
    redis_client: redis.Redis,
    clicks: Clicks,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("stream.items.source.FETCH_RECORDS", 150)
    clicks.send(3_000)
    clicks.control("twintide-forget", "u7", 7 % PARTITIONS)
    clicks.control("twintide-forget-item", "i45")
    clicks.send(1_000)
    chance, steps = random.Random(5), []
    for crash in range(20):
        keeps = crash % 4 != 3  # what the others learn is always lost
        crashing = follow(live_settings, model, redis_client, snapshot_s=0.001 if keeps else 1e9)
        began_at = crashing.learner.step
        for _ in range(chance.randrange(1, 5)):
            drain(live_settings, crashing, until_step=crashing.learner.step + 1)
            if chance.random() < 0.3:
                crashing._await_keeping()  # so that there is a snapshot, and then more is learned
        steps.append((began_at, crashing.learner.step))
        crashing.abandon()  # a snapshot that is being written is fenced off by the next learner
    assert len({began_at for began_at, _ in steps}) > 5
    assert any(began_at < reached for (began_at, _), (_, reached) in zip(steps[1:], steps, strict=False))
    survivor = follow(live_settings, model, redis_client)
    drain(live_settings, survivor)
    other = dataclasses.replace(live_settings, app_id=f"{live_settings.app_id}-other")
    unharmed = follow(other, model, redis_client)
    drain(other, unharmed)
    assert survivor.learner.step == unharmed.learner.step > 4_000
    assert states_differ(survivor.learner, unharmed.learner) == []
    survivor.close()
    unharmed.close()
    first = Snapshots(live_settings.kafka, snapshots_topic(live_settings.app_id, model.version), 1).load()
    second = Snapshots(other.kafka, snapshots_topic(other.app_id, model.version), 1).load()
    assert first and second and first.positions == second.positions


class OneUser:
    """A reader that knows one user of a model."""

    def __init__(self, vec: "np.ndarray[Any, Any]", version: str, reason: Reason = "") -> None:
        self.user = UserVectors("u", vec, vec, vec, version, 1, 1, 0.0, 1, reason)

    def read(self, user_ids: list[str], category: str) -> list[UserVectors]:
        return [self.user for _ in user_ids]


def ranker(settings: Settings, client: "redis.Redis", model: Artifact, reason: Reason = "") -> Recommender:
    vec = model.item_vectors[3] / np.linalg.norm(model.item_vectors[3])
    reader: Any = OneUser(vec, model.version, reason)
    return Recommender(reader, settings.artifact, live_items=LiveItems(client, settings.key_prefix))


def test_item_that_nobody_knew_is_ranked_seconds_after_its_first_readers(
    live_settings: Settings,
    model: Artifact,
    redis_client: redis.Redis,
    clicks: Clicks,
    process: ItemsProcess,
    until: Callable[..., None],
) -> None:
    ModelRegistry(redis_client, live_settings.key_prefix).serve(model.version, 1)
    recommender = ranker(live_settings, redis_client, model)
    before = recommender.recommend("u", 5)
    assert before.not_live == "no item learner has run for this model"
    assert before.item_ids == recommender.recommend("u", 5, fresh=False).item_ids
    process.start()
    clicks.send(300)
    until(lambda: process.metrics().get(f"twintide_items_lag_events{{{model.version}}}") == 0)
    until(lambda: not recommender.recommend("u", 5).not_live)
    sent_at = time.monotonic()
    for user in range(12):
        clicks.click(f"u{user}", "just in", 400_000, "c2")
        clicks.click(f"{CANARY_PREFIX}{user}", "the canary's", 400_000, "c2")
    clicks.flush()
    until(lambda: "just in" in recommender.recommend("u", 100).item_ids, timeout_s=30)
    print(f"event to ranked item: {time.monotonic() - sent_at:.2f} s")
    found = recommender.recommend("u", 100, category="c2")
    assert "just in" in found.item_ids
    assert found.new_items >= 1
    assert "the canary's" not in found.item_ids
    assert "just in" not in recommender.recommend("u", 100, category="c1").item_ids
    cold = ranker(live_settings, redis_client, model, "cold_start").recommend("u", 1)
    assert cold.item_ids == ["just in"]  # the most clicked of the last minute
    process.kill()  # the first of two kills: what comes meanwhile is learned after it, once
    clicks.send(200)
    process.start()
    until(lambda: process.metrics().get(f"twintide_items_lag_events{{{model.version}}}") == 0, timeout_s=120)
    process.kill()  # nobody publishes any more: what there is is used for a while, then the model's items
    assert "just in" in recommender.recommend("u", 100).item_ids
    late = ranker(live_settings, redis_client, model)
    late._live_items._clock = lambda: time.time() + 100
    assert late.recommend("u", 5).not_live == "no item learner has written for 60 s"
    assert late.recommend("u", 5).item_ids == before.item_ids
    killed = Following(live_settings, ItemsSettings(snapshot_s=1e9), model, redis_client)
    drain(live_settings, killed)
    other = dataclasses.replace(live_settings, app_id=f"{live_settings.app_id}-other")
    unharmed = Following(other, ItemsSettings(snapshot_s=1e9), model, redis_client)
    drain(other, unharmed)
    assert killed.learner.step == unharmed.learner.step
    assert killed.learner.counts_of_events == unharmed.learner.counts_of_events
    killed.abandon()
    unharmed.abandon()


@pytest.fixture
def service(live_settings: Settings, redis_client: redis.Redis) -> Iterator[Service]:
    """Give an item learner that runs in a thread."""
    running = Service(live_settings, ItemsSettings(0.05, 0.3, learner=LEARNER), redis_client)
    stop = Event()
    thread = Thread(target=running.serve, args=[stop])
    thread.start()
    yield running
    stop.set()
    thread.join(120)
    assert not thread.is_alive()


def test_next_model_has_its_own_learner_before_it_serves_and_after_a_rollback(
    live_settings: Settings,
    model: Artifact,
    redis_client: redis.Redis,
    clicks: Clicks,
    until: Callable[..., None],
    service: Service,
) -> None:
    registry = ModelRegistry(redis_client, live_settings.key_prefix)
    second = make(model.path.parent, 1)
    registry.serve(model.version, 1)
    old, new = (ranker(live_settings, redis_client, each) for each in (model, second))
    for user in range(8):
        clicks.click(f"u{user}", "fresh", 1_000)
    clicks.flush()
    until(lambda: "fresh" in old.recommend("u", 100).item_ids)
    assert service.status.health().status == "ready"
    assert new.recommend("u", 3).not_live == "no item learner has run for this model"
    registry.stage(second.version, 2, partitions=1)
    until(lambda: "fresh" in new.recommend("u", 100).item_ids)  # from the stream, before anybody is switched
    assert registry.read().serving.version == model.version  # type: ignore[union-attr]
    registry.report_coverage(second.version, 0, 1, 1)
    for user in range(8):
        clicks.click(f"u{user}", "after the switch", 2_000)
    clicks.flush()
    for each in (old, new):  # the old one learns on, for a rollback
        until(lambda each=each: "after the switch" in each.recommend("u", 100).item_ids)
    vectors = {
        item: table_of(each, made).vectors[0]
        for item, (each, made) in {"old": (old, model), "new": (new, second)}.items()
    }
    assert not np.allclose(vectors["old"][:-2], vectors["new"][:-2])
    registry.rollback(second.version)
    registry.retire(second.version)
    until(lambda: new.recommend("u", 3).not_live == "no item learner has run for this model")
    topics = partition_counts(live_settings.kafka)
    assert snapshots_topic(live_settings.app_id, model.version) in topics
    until(
        lambda: (
            snapshots_topic(live_settings.app_id, second.version) not in partition_counts(live_settings.kafka)
        )
    )
    assert not old.recommend("u", 3).not_live


def test_partitions_that_a_topic_gets_are_learned_from(
    live_settings: Settings,
    model: Artifact,
    redis_client: redis.Redis,
    clicks: Clicks,
    until: Callable[..., None],
    service: Service,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("stream.items.service.POLL_TOPIC_EVERY_S", 0.1)
    ModelRegistry(redis_client, live_settings.key_prefix).serve(model.version, 1)
    recommender = ranker(live_settings, redis_client, model)
    clicks.click("u1", "before", 1_000)
    clicks.flush()
    until(lambda: "before" in recommender.recommend("u", 100).item_ids)
    add_partitions(live_settings.kafka, live_settings.topic, PARTITIONS + 1)
    wider = Clicks(live_settings)
    wider.click("u2", "after", 2_000, partition=PARTITIONS)
    wider.flush()
    until(lambda: {"before", "after"} <= {*recommender.recommend("u", 100).item_ids})
    (following,) = service._following.values()
    assert following.learner.counts_of_events["learned"] == 2


def table_of(recommender: Recommender, model: Artifact) -> LiveTable:
    assert recommender._live_items
    table, reason = recommender._live_items.of(load_item_vectors(model.path))
    assert table is not None, reason
    return table


def test_item_that_is_forgotten_is_gone_for_readers_until_it_is_clicked_again(
    live_settings: Settings,
    model: Artifact,
    redis_client: redis.Redis,
    clicks: Clicks,
    until: Callable[..., None],
    service: Service,
) -> None:
    ModelRegistry(redis_client, live_settings.key_prefix).serve(model.version, 1)
    recommender = ranker(live_settings, redis_client, model)
    for user in range(8):
        clicks.click(f"u{user}", "regretted", 1_000)
        clicks.click(f"u{user}", "i3", 2_000)
    clicks.flush()
    until(lambda: "regretted" in recommender.recommend("u", 100).item_ids)
    for item in ("regretted", "i3"):  # one that the stream brought, and one of the model's own
        said = CliRunner().invoke(forget.main, ["--item", item], env=worker_environment(live_settings))
        assert said.exit_code == 0, said.output
        assert said.stdout.startswith(f"forgotten: item {item!r} partition=")
        until(lambda item=item: item not in recommender.recommend("u", 100).item_ids)
    assert {"regretted", "i3"}.isdisjoint(
        ranker(live_settings, redis_client, model).recommend("u", 100).item_ids
    )
    for user in range(8, 16):
        clicks.click(f"u{user}", "i3", 3_000)
    clicks.flush()
    until(lambda: "i3" in recommender.recommend("u", 100).item_ids)
    assert recommender.recommend("u", 100).item_ids.count("i3") == 1


def test_second_learner_of_a_model_fences_the_first(
    live_settings: Settings, model: Artifact, redis_client: redis.Redis, clicks: Clicks
) -> None:
    clicks.send(50)
    first = follow(live_settings, model, redis_client)
    drain(live_settings, first)
    second = follow(live_settings, model, redis_client)
    with pytest.raises(FencedError, match="another item learner has taken over"):
        first.close()
    first.abandon()
    second.step(0.1)
    with pytest.raises(ReplacedError):
        first._publisher.publish()
    drain(live_settings, second)
    assert second.learner.step > 50
    second.close()


def test_learner_outlives_servers_that_are_down(
    live_settings: Settings,
    model: Artifact,
    redis_client: redis.Redis,
    clicks: Clicks,
    until: Callable[..., None],
    service: Service,
    kafka_server: KafkaServer,
    redis_server: RedisServer,
) -> None:
    if live_settings.kafka.bootstrap_servers != kafka_server.bootstrap_servers:
        pytest.skip("another broker is used, which is not ours to kill")
    ModelRegistry(redis_client, live_settings.key_prefix).serve(model.version, 1)
    recommender = ranker(live_settings, redis_client, model)
    for number, server in enumerate((kafka_server, redis_server, None)):
        item = f"before fault {number}"
        for user in range(8):
            clicks.click(f"u{user}", item, 1_000 + number)
        clicks.flush()
        until(lambda item=item: item in recommender.recommend("u", 100).item_ids, timeout_s=120)
        if server is not None:
            server.kill()
            time.sleep(2)
            server.start()
    redis_client.flushall()  # it came back, and empty
    ModelRegistry(redis_client, live_settings.key_prefix).serve(model.version, 1)
    until(lambda: "before fault 2" in ranker(live_settings, redis_client, model).recommend("u", 99).item_ids)


def test_user_of_new_items_alone_is_what_a_batch_makes_of_them_with_the_snapshot_that_is_named(
    live_settings: Settings,
    model: Artifact,
    redis_client: redis.Redis,
    clicks: Clicks,
    until: Callable[..., None],
    service: Service,
    tmp_path: Path,
) -> None:
    worker = WorkerProcess(tmp_path / "worker", worker_environment(live_settings))
    reader = Reader(redis_client, key_prefix=live_settings.key_prefix)
    items, times_ms = ["new a", "new b", "new a"], [START_MS + 400_000 + number for number in range(3)]
    try:
        worker.start()
        for user in range(12):
            for number, item in enumerate((f"i{user % 3}", "new a", f"i{user % 3}", "new b")):
                clicks.click(f"u{user}", item, 1_000 * number + user)
        clicks.flush()
        until(lambda: worker.metrics().get(f"twintide_live_inputs{{{model.version}}}", 0) >= 2)
        for item, time_ms in zip(items, times_ms, strict=True):
            clicks.click("late", item, time_ms - START_MS)
        clicks.flush()
        until(lambda: reader.read(["late"])[0].n == 3)
        (row,) = reader.read(["late"])
        kept = read_kept_inputs(redis_client, live_settings.key_prefix, model)
        assert kept is not None
        were = kept.at(row.inputs, items)
        assert were is not None and len(were) == 2
        window = Window(times_ms=times_ms, item_ids=items, categories=["c1"] * 3, behaviours=[1] * 3)
        window.event_hashes = [1, 2, 3]
        values, live = [window_to_bytes(window)], live_inputs(row.inputs, were, model)
        batch = model.encode(histories_of_windows(values, model.vocabulary, live)).user[0]
        trained = model.encode(histories_of_windows(values, model.vocabulary)).user[0]
        np.testing.assert_allclose(row.vec, batch, atol=1e-5)
        assert np.abs(row.vec - trained).max() > 1e-3
        assert worker.metrics()["twintide_encoded_inputs_total{live}"] >= 1
        wait_until_committed(live_settings, 60)
        found = prove(live_settings)
        assert found.is_ok, found.complaint
        assert found.vectors + found.apart.get(Apart.INPUTS_GONE, 0) == 13
        redis_client.hset(f"{live_settings.key_prefix}late", "inputs", "")
        assert "user 'late': Redis has a wrong vec and a wrong short" in prove(live_settings).complaint
    finally:
        worker.kill()
