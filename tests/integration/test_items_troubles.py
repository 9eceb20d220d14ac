"""A Redis that is full, and rights that Kafka takes back, while an item learner runs: it says so."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import redis
from confluent_kafka.admin import AclOperation, ResourceType

from local.items import ItemsProcess
from local.kafka import KafkaServer
from local.redis import RedisServer
from local.worker import worker_environment
from models.artifact.artifact import Artifact
from stream.items.snapshots import snapshots_topic
from stream.settings import Settings
from stream.store.connection import RedisConnection
from stream.store.model_registry import ModelRegistry
from tests.integration.certificates import Authority
from tests.integration.guarded import Guarded
from tests.integration.shop import Shop

pytestmark = pytest.mark.integration

NOT_ALLOWED = "authorization failed"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """Give a Redis of our own."""
    found = RedisServer(tmp_path / "redis")
    found.start()
    yield found
    found.kill()


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[tuple[Guarded, Authority]]:
    """Give a broker with rights, and who signed its certificate."""
    authority = Authority(tmp_path, "ca")
    found = Guarded(KafkaServer(tmp_path / "kafka"))
    found.start(authority.certificate("good"), authority.ca_file)
    yield found, authority
    found.server.kill()


def test_learner_that_is_refused_says_why_and_goes_on_when_it_is_over(
    settings: Settings,
    server: RedisServer,
    guarded: tuple[Guarded, Authority],
    artifact: Artifact,
    tmp_path: Path,
    until: Callable[..., None],
) -> None:
    broker, authority = guarded
    ours = replace(settings, kafka=broker.open, redis=RedisConnection(server.url))
    broker.allow(ours.app_id)
    environment = {**worker_environment(ours), **broker.by_password(authority.ca_file)}
    learner = ItemsProcess(tmp_path / "items", environment, snapshot_s=0.5, always=True)
    learned = f"twintide_items_events_total{{learned}}{{{artifact.version}}}"
    published = f"twintide_items_published_timestamp_seconds{{{artifact.version}}}"

    def is_going_on(events: int) -> bool:
        found = learner.metrics()
        return found.get(learned, 0) >= events and found["twintide_items_leads"] == 1

    with redis.Redis.from_url(server.url) as client:
        ModelRegistry(client, ours.key_prefix).serve(artifact.version, 1)
        shop = Shop(ours, client, artifact)
        shop.send(200)
        try:
            learner.start()
            until(lambda: is_going_on(200))
            client.config_set("maxmemory", 1)
            shop.send(100, first=200)
            until(lambda: "Redis does not take live items" in learner.process.log.read_text())
            assert "maxmemory" in learner.process.log.read_text()
            before = learner.metrics()[published]
            client.config_set("maxmemory", 0)
            until(lambda: learner.metrics()[published] > before)
            for name, operation, said in (
                (ours.topic, AclOperation.READ, f"topic {ours.topic} cannot be read: "),
                (
                    snapshots_topic(ours.app_id, artifact.version),
                    AclOperation.WRITE,
                    "did not take a snapshot",
                ),
            ):
                with broker.denied(ResourceType.TOPIC, name, operation):
                    shop.send(100, first=shop.published)
                    until(lambda: learner.health().get("status") == "stuck")
                    reason = learner.health()["reason"]
                    assert said in reason and NOT_ALLOWED in reason.lower(), reason
                until(lambda: is_going_on(100) and learner.is_ready())
            assert "Traceback" not in learner.process.log.read_text()
        finally:
            learner.kill()
