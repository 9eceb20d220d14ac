"""An item learner's main loop: what /health says of it."""

import time
import uuid

import pytest
import redis

from stream.items.following import ItemsSettings
from stream.items.service import Service
from stream.items.snapshots import snapshots_topic
from stream.kafka.connection import KafkaConnection
from stream.kafka.topics import ensure_topic, partition_counts
from stream.settings import Settings
from stream.store.model_registry import ModelRegistry
from stream.worker.health import Health

pytestmark = pytest.mark.integration


def test_learner_that_begins_to_lead_is_not_called_stuck_for_what_was_before(
    redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings()
    ModelRegistry(redis_client, settings.key_prefix).serve("0123456789ab", 1)
    service = Service(settings, ItemsSettings(), redis_client)
    monkeypatch.setattr(service, "_follow", lambda version: None)
    assert service._lease.take()
    service._poll()
    assert service.status.health() == Health("ready")
    service._lease.give_up()


def test_states_of_models_that_are_not_live_go_and_a_topic_of_the_shops_own_stays(
    redis_client: redis.Redis, kafka: KafkaConnection
) -> None:
    name = f"test-{uuid.uuid4().hex[:8]}"
    settings = Settings(kafka=kafka, app_id=name, key_prefix=f"{name}:")
    ModelRegistry(redis_client, settings.key_prefix).serve("0123456789ab", 1)
    theirs = [f"{name}-items-prices", f"{name}-items-2026", f"{name}-items-0123456789abcdef"]
    ours = [snapshots_topic(name, version) for version in ("0123456789ab", "abcdefabcdef")]
    for topic in [*theirs, *ours]:
        ensure_topic(kafka, topic, 1)
    Service(settings, ItemsSettings(), redis_client)._drop_topics()
    deadline = time.monotonic() + 60
    while (found := {each for each in partition_counts(kafka) if each.startswith(name)}) != {
        *theirs,
        ours[0],
    }:
        assert time.monotonic() < deadline, found
        time.sleep(0.1)
