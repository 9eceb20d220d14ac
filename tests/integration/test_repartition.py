"""The topic changes under a running worker: partitions are added, or it is made again."""

from collections.abc import Callable

import pytest
import redis
from aiokafka.partitioner import murmur2

from local.proof import wait_until_committed
from local.worker import WorkerProcess
from models.artifact.artifact import Artifact
from models.windows.window import Window, window_from_bytes
from stream import repartition as command
from stream.kafka.topic_reader import read_all
from stream.kafka.topics import (
    add_partitions,
    admin_client,
    answered,
    changelog_topic,
    delete_topic,
    ensure_topic,
)
from stream.repartition import RepartitionRefusedError, repartition
from stream.settings import Settings
from tests.integration.shop import Shop

pytestmark = pytest.mark.integration


def stored_windows(settings: Settings) -> dict[tuple[int, bytes], Window]:
    """Return the last window of each (partition, user) of the changelog that no tombstone has followed."""
    last = {
        (each.partition(), each.key()): each.value()
        for each in read_all(settings.kafka, changelog_topic(settings.app_id))
    }
    return {place: window_from_bytes(value) for place, value in last.items() if value is not None}


def is_read(worker: WorkerProcess, applied: int) -> bool:
    return worker.metrics().get("twintide_events_total{applied}", 0) == applied


def test_added_partitions_are_noticed_and_read_once_the_windows_have_moved(
    shop: Shop,
    worker: WorkerProcess,
    settings: Settings,
    artifact: Artifact,
    redis_client: "redis.Redis",
    until: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    worker.start()
    shop.send(800)
    add_partitions(settings.kafka, settings.topic, 6)
    Shop(settings, redis_client, artifact).send(400, first=800)  # another producer, which knows of them
    until(lambda: "6 partitions" in worker.health()["reason"], timeout_s=120)
    assert worker.metrics()["twintide_unread_partitions"] == 2
    with pytest.raises(RepartitionRefusedError, match="is running"):
        repartition(settings)
    worker.kill()
    Shop(settings, redis_client, artifact).send(400, first=1_200)
    worker.start(wait=False)  # it still reads the partitions that it can, and says so
    until(lambda: "6 partitions" in worker.health().get("reason", ""), timeout_s=120)
    until(lambda: sum(lags(worker)) == 0 and worker.metrics()["twintide_commit_age_seconds"] < 1)
    worker.stop()

    delivered = command._Moving._delivered
    with monkeypatch.context() as patch:  # windows are copied, and are still where they were
        patch.setattr(command._Moving, "_delivered", lambda moving: delivered(moving) or 1 / 0)
        with pytest.raises(ZeroDivisionError):
            repartition(settings)
    worker.start(wait=False)
    assert worker.wait(120) == 2, "windows are half moved"
    done = repartition(settings)
    assert (done.before, done.partitions, done.users) == (4, 6, 40)
    with pytest.raises(RepartitionRefusedError, match="nothing to move"):
        repartition(settings)

    worker.start()
    wait_until_committed(settings, timeout_s=120)
    windows = stored_windows(settings)
    assert {number for number, _ in windows} == set(range(6))
    assert all((murmur2(key) & 0x7FFFFFFF) % 6 == number for number, key in windows)
    assert sum(window.applied for window in windows.values()) == 1_600
    assert len(windows) == 40
    until(lambda: all(is_fresh(settings, redis_client, key, window) for (_, key), window in windows.items()))

    worker.stop()
    client = admin_client(settings.kafka)
    expired = lambda: client.delete_consumer_groups([settings.app_id])[settings.app_id]  # noqa: E731
    answered(expired, f"group {settings.app_id}")
    worker.start()  # and everything is read again
    wait_until_committed(settings, timeout_s=120)
    assert worker.metrics()["twintide_events_total{duplicate}"] == 1_600
    assert stored_windows(settings) == windows


def lags(worker: WorkerProcess) -> list[float]:
    found = [value for name, value in worker.metrics().items() if name.startswith("twintide_consumer_lag")]
    return found or [1.0]


def is_fresh(settings: Settings, client: "redis.Redis", key: bytes, window: Window) -> bool:
    return client.hget(settings.key_prefix + key.decode(), "ts") == str(window.times_ms[-1]).encode()


def test_topic_that_is_made_again_ends_the_worker_and_the_next_start_reads_the_new_one(
    shop: Shop, worker: WorkerProcess, settings: Settings, until: Callable[..., None]
) -> None:
    worker.start()
    shop.send(1_000)
    until(lambda: is_read(worker, 1_000))
    delete_topic(settings.kafka, settings.topic)
    ensure_topic(settings.kafka, settings.topic, 4)
    assert worker.wait(120) == 1
    reason = worker.process.log.read_text().strip().splitlines()[-1]
    assert f"topic {settings.topic} " in reason
    shop.send(200, first=1_000)  # far fewer than the old topic had
    worker.start()
    until(lambda: is_read(worker, 200), 240)
