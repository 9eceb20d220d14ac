"""Whatever happens to workers, broker and Redis, in whatever order: no event lost, none counted twice.

pytest tests/integration/test_chaos.py                                     the short form
pytest tests/integration/test_chaos.py --chaos-faults 24 --chaos-seed 7    as long as you like
... --chaos-encoding avro                                                  with a schema registry, that fails
... --chaos-items                                                          with an item learner, killed too
"""

import json
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from confluent_kafka import Producer

from local.items import ItemsProcess
from local.kafka import KafkaServer
from local.proof import Proof, prove
from local.redis import RedisServer
from local.registry import RegistryServer
from local.worker import worker_environment
from models.artifact.artifact import Artifact
from models.artifact.stores import read_version
from models.windows.window import window_from_bytes
from replay.encoding import make_encode
from stream.items.snapshots import Snapshots, snapshots_topic
from stream.kafka.connection import KafkaConnection
from stream.kafka.topic_reader import read_all
from stream.kafka.topics import changelog_topic, end_offsets, ensure_topic
from stream.registry.connection import RegistryConnection
from stream.settings import Settings
from stream.store.connection import RedisConnection
from tests.integration.chaos import Chaos, Traffic
from tests.integration.learning import publish_live_model

pytestmark = pytest.mark.integration

#: One of each come first, in random order; a longer run goes on with any of these.
SHORT = ("kill", "join", "wake", "broker", "redis_outage")
ALL = (*SHORT, "leave", "pause", "full_disk", "expire", "widen")
#: Where events have schemas: their registry fails, twice as often as anything else.
ENCODED = ("registry_outage", "registry_outage")
#: Where there is an item learner.
ITEMS = ("kill_learner", "kill_learner", "freeze_learner")

USERS = 300
#: Items that a model which goes on learning knows, of 70.
KNOWN = 50
#: By then the item learner has learned all there is (s).
LEARNED_S = 120.0


@contextmanager
def chaos(
    artifact: Artifact, directory: Path, encoding: str = "json", app: str = "stream.app"
) -> Iterator[Chaos]:
    """Give servers and workers that nothing else depends on, and end them all."""
    kafka, redis_server = KafkaServer(directory / "kafka"), RedisServer(directory / "redis", durable=True)
    registry = RegistryServer(directory / "registry")
    settings = Settings(
        kafka=KafkaConnection(kafka.bootstrap_servers),
        redis=RedisConnection(redis_server.url),
        artifact=artifact.path.parent,
    )
    if encoding != "json":
        (directory / "events.toml").write_text(f'encoding = "{encoding}"\n')
        settings = replace(
            settings,
            event_format=str(directory / "events.toml"),
            registry=RegistryConnection(registry.url),
        )
    found = Chaos(settings, (kafka, redis_server, registry), directory, app)
    try:
        kafka.start()
        redis_server.start()
        if encoding != "json":
            registry.start()
        ensure_topic(settings.kafka, settings.topic, settings.partitions)
        yield found
    finally:
        found.end()


def traffic(settings: Settings, seed: int, encoding: str = "json") -> Traffic:
    """Return traffic of many users: some events come twice, some late, a few cannot be read."""
    chance = random.Random(seed)
    encode = make_encode(encoding, settings.registry, settings.topic)
    producer = Producer(
        {
            **settings.kafka.librdkafka(),
            "partitioner": "murmur2_random",
            "acks": "all",
            "enable.idempotence": True,  # a broker that comes back must not make one event two
            "topic.metadata.refresh.interval.ms": 1_000,  # it soon notices partitions that are added
            "log_level": 0,
        }
    )

    def publish(number: int) -> None:
        if chance.random() < 0.02:
            number = max(number - chance.randrange(2_000), 0)
        user_id = f"user {int(USERS * random.Random(number).random() ** 2)}#ü"
        lateness_ms = random.Random(-number).choice((0, 0, 0, 0, 0, 0, 300_000, 20_000_000))
        event = {
            "event_id": f"e{number}",
            "user_id": user_id,
            "item_id": f"i{number * 13 % 70}",
            "behavior_type": 1 + number % 4,
            "item_category": f"c{number % 3}",
            "time": 1_417_000_000_000 + number * 1_000 - lateness_ms,
        }
        value = json.dumps(event).encode() if chance.random() > 0.001 else b"not an event"
        if encode:
            (value,) = encode([value])
        producer.produce(settings.topic, value, user_id.encode())
        producer.poll(0)

    return Traffic(publish, lambda: producer.flush(100))


def verdict(found: Chaos, published: int) -> Proof:
    """Return what the servers say, once nobody writes any more.

    It says nothing of users who moved to other partitions: see `accounted`.
    """
    for worker in found.workers:
        worker.stop()
    proof = prove(found.settings, published=None if found.done["widen"] else published)
    print(f"{proof} {proof.complaint}; faults {dict(found.done)}, gave up {found.gave_up}", flush=True)
    return proof


def accounted(settings: Settings) -> int:
    """Return how many events all windows of the changelog, and the dead letters, know of."""
    changelog = read_all(settings.kafka, changelog_topic(settings.app_id))
    last = {(each.partition(), each.key()): each.value() for each in changelog}
    windows = [window_from_bytes(value) for value in last.values() if value is not None]
    letters = (dict(each.headers() or ()) for each in read_all(settings.kafka, settings.dead_letter_topic))
    places = {(letter["partition"], letter["offset"]) for letter in letters}
    return len(places) + sum(each.applied + each.duplicate + each.late for each in windows)


def some_faults(count: int, seed: int, encoding: str, with_items: bool) -> list[str]:
    chance = random.Random(seed)
    others = (*ALL, *(ENCODED if encoding != "json" else ()), *(ITEMS if with_items else ()))
    return [*chance.sample(SHORT, len(SHORT)), *chance.choices(others, k=max(count - len(SHORT), 0))][:count]


def seen_by_learner(found: Chaos) -> int:
    """Return how many events the item learner knows of at the topic's end, by its last snapshot."""
    assert found.learner is not None
    deadline = time.monotonic() + LEARNED_S
    version = read_version(found.settings.artifact)
    lag = f"twintide_items_lag_events{{{version}}}"
    while found.learner.metrics().get(lag) != 0 or not found.learner.is_ready():
        assert time.monotonic() < deadline, (found.learner.health(), found.learner.metrics())
        found.rest(0.5)
    found.learner.stop()
    topic = snapshots_topic(found.settings.app_id, version)
    snapshot = Snapshots(found.settings.kafka, topic, found.settings.replication_factor).load()
    assert snapshot is not None
    ends = end_offsets(found.settings.kafka, found.settings.topic)
    assert {partition: each.offset for partition, each in snapshot.positions.items()} == ends
    return int(snapshot.arrays["stream/numbers"][0])


def test_nothing_is_lost_whatever_happens(
    artifact: Artifact, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    count, seed = pytestconfig.getoption("--chaos-faults"), pytestconfig.getoption("--chaos-seed")
    encoding = pytestconfig.getoption("--chaos-encoding")
    if with_items := pytestconfig.getoption("--chaos-items"):
        artifact = publish_live_model(tmp_path / "store", KNOWN)
    print(f"seed {seed}, {encoding}", flush=True)
    with chaos(artifact, tmp_path, encoding) as found:
        for worker in found.wanted:
            worker.start()
        if with_items:
            found.learner = ItemsProcess(
                tmp_path / "items", worker_environment(found.settings), snapshot_s=2.0
            )
            found.learner.start()
        events = traffic(found.settings, seed, encoding)
        events.start()
        found.run(some_faults(count, seed, encoding, with_items), seed)
        published = events.finish()
        found.clean_up()
        seen = seen_by_learner(found) if with_items else None
        proof = verdict(found, published)
        assert accounted(found.settings) == published
    assert proof.is_ok, proof.complaint
    assert seen in (None, published - proof.malformed)
    assert sum(found.done.values()) == count
    assert proof.applied > 1_000
    assert proof.duplicate > 0
    assert proof.malformed > 0


def test_commit_before_the_changelog_would_be_noticed(
    artifact: Artifact, tmp_path: Path, until: Callable[..., None]
) -> None:
    with chaos(artifact, tmp_path, app="tests.integration.commit_first") as found:
        found.wanted = found.workers[:1]
        (worker,) = found.wanted
        worker.start()
        events = traffic(found.settings, seed=0)
        events.start()
        until(lambda: worker.metrics().get("twintide_events_total{applied}", 0) > 500)
        count = "twintide_stage_seconds_count{commit}"  # is there once something was committed
        commits = worker.metrics().get(count, 0)
        until(lambda: worker.metrics().get(count, 0) > commits)
        found.kill()
        published = events.finish()
        found.clean_up()
        proof = verdict(found, published)
    assert "accounted for" in proof.complaint
    assert proof.applied < published
