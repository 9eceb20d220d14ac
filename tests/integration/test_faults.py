"""What the worker does when a server or its disk fails it: wait and heal, or end and say why."""

import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import redis
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from local.kafka import KafkaServer
from local.redis import RedisServer
from local.worker import WorkerProcess, worker_environment
from stream.kafka.group import committed_offsets
from stream.kafka.topic_reader import read_all
from stream.kafka.topics import admin_client, changelog_topic, end_offsets
from stream.settings import Settings
from stream.store.connection import RedisConnection
from tests.integration.shop import Shop

pytestmark = pytest.mark.integration


def last_line(worker: WorkerProcess) -> str:
    return worker.process.log.read_text().strip().splitlines()[-1]


def test_broker_that_is_away_for_20_s_under_load_costs_nothing(
    shop: Shop, worker: WorkerProcess, kafka_server: KafkaServer, until: Callable[..., None]
) -> None:
    def applied() -> float:
        return worker.metrics().get("twintide_events_total{applied}", 0)

    worker.start()
    shop.send(1_000)
    pid = worker.process.pid
    with shop.load(first=1_000):
        until(lambda: applied() > 1_200)
        kafka_server.kill()
        before = shop.published
        try:
            time.sleep(20)
        finally:
            kafka_server.start()
        assert shop.published > before + 1_000, "there was no load"
        until(lambda: applied() > shop.published - 400)
    found = shop.prove()
    assert found.is_ok, found.complaint
    assert worker.process.pid == pid, "it did not heal: it ended"
    assert found.applied == shop.published


def test_events_that_retention_took_before_they_were_read_are_counted_and_told(
    shop: Shop, worker: WorkerProcess, settings: Settings, until: Callable[..., None]
) -> None:
    worker.start()
    shop.send(400)
    assert shop.prove().is_ok
    worker.stop()
    committed = committed_offsets(settings.kafka, settings.app_id, settings.topic)
    shop.send(400, first=400)
    taken = {
        partition: (offset + end_offsets(settings.kafka, settings.topic)[partition]) // 2
        for partition, offset in committed.items()
    }
    client = admin_client(settings.kafka)
    places = [TopicPartition(settings.topic, *each) for each in taken.items()]
    for done in client.delete_records(places).values():
        done.result(60)
    lost = {partition: offset - committed[partition] for partition, offset in taken.items()}
    worker.start()
    until(lambda: worker.metrics().get("twintide_events_total{applied}", 0) == 400 - sum(lost.values()))
    assert lost == {
        partition: worker.metrics()[f"twintide_overtaken_events_total{{{partition}}}"] for partition in lost
    }
    log = worker.process.log.read_text()
    assert f"{lost[0]} events of partition 0 are lost: topic {settings.topic}" in log


def test_refused_changelog_record_ends_the_worker_with_the_reason(
    shop: Shop, worker: WorkerProcess, settings: Settings, until: Callable[..., None]
) -> None:
    worker.start()
    shop.send(500)
    until(lambda: worker.metrics().get("twintide_events_total{applied}", 0) == 500)
    changelog = changelog_topic(settings.app_id)
    limit_records(settings, changelog, 100)
    shop.send(500, first=500)
    assert worker.wait(120) == 1
    assert f" of {changelog}: " in last_line(worker)
    assert "Kafka refused windows of partition " in last_line(worker)
    assert "Broker: Message size too large" in last_line(worker)


def limit_records(settings: Settings, topic: str, size: int) -> None:
    limit = ConfigEntry("max.message.bytes", str(size), incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[limit])
    client = admin_client(settings.kafka)
    client.incremental_alter_configs([resource])[resource].result(timeout=60)


def test_nothing_that_kafka_takes_from_a_producer_stops_a_partition(
    shop: Shop, worker: WorkerProcess, settings: Settings
) -> None:
    """Windows larger than a record, dead letters larger than their topic takes, and a key of that size."""
    limit_records(settings, settings.topic, 5_000_000)
    worker.start()
    for number in range(110):
        event = {"user_id": "large", "item_id": f"{number}".ljust(9_300, "t"), "behavior_type": 1, "time": 9}
        shop.send_raw(b"large", json.dumps(event).encode())
    for key, size in ((b"u", 1_010_000), (b"u", 2_000_000), (b"k" * 1_100_000, 10), (None, 3_000_000)):
        shop.send_raw(key, b"x" * size)
    shop.send_raw(b"k" * 1_200_000, None)
    shop.send(500, first=500)
    found = shop.prove()
    assert found.is_ok, found.complaint
    assert (found.applied, found.malformed) == (610, 5)
    letters = read_all(settings.kafka, settings.dead_letter_topic)
    cut = [dict(each.headers() or ()).get("value_bytes", b"") for each in letters]
    assert sorted(cut) == [b"", b"", b"", b"2000000", b"3000000"]


def test_dead_letter_that_kafka_refuses_is_not_committed_and_comes_again(
    shop: Shop, worker: WorkerProcess, settings: Settings
) -> None:
    worker.start()
    shop.send(500)
    limit_records(settings, settings.dead_letter_topic, 1_000)
    shop.send_raw(b"u", os.urandom(5_000))
    shop.send(500, first=500)
    assert worker.wait(120) == 1
    assert f"Kafka refused a record of {settings.dead_letter_topic}: Broker: Message size" in last_line(
        worker
    )
    worker.start()  # it has the topic take more
    found = shop.prove()
    assert found.is_ok, found.complaint
    assert (found.applied, found.malformed) == (1_000, 1)


def test_full_disk_ends_the_worker_with_the_reason(shop: Shop, settings: Settings, tmp_path: Path) -> None:
    environment = {**worker_environment(settings), "TWINTIDE_ROCKSDB_MB": "16"}
    worker = WorkerProcess(tmp_path / "worker", environment)
    worker.start()
    try:
        # No file may grow beyond this: to RocksDB the same as a disk without room. It has no log of its own
        # (the changelog is that), so it sees the disk only when what is in memory is to become a file.
        psutil.Process(worker.process.pid).rlimit(psutil.RLIMIT_FSIZE, (100_000, 100_000))
        with shop.load(first=0, users=1_000, events_per_s=3_000):
            assert worker.wait(120) == 1
    finally:
        worker.kill()
    assert "File too large" in last_line(worker)


def test_data_directory_that_cannot_be_written_is_refused(
    shop: Shop, settings: Settings, tmp_path: Path
) -> None:
    worker = WorkerProcess(tmp_path / "worker", worker_environment(settings))
    (tmp_path / "worker").mkdir()
    (tmp_path / "worker" / "state").write_text("a file where the directory should be")
    worker.start(wait=False)
    assert worker.wait(120) == 2
    state = tmp_path / "worker" / "state"
    assert last_line(worker) == (
        f"Error: TWINTIDE_DATA_DIR is {state}, where nothing can be written (File exists)"
    )
    assert "Traceback" not in worker.process.log.read_text()


def test_redis_without_memory_pauses_reading_and_heals(
    shop: Shop, settings: Settings, tmp_path: Path, until: Callable[..., None]
) -> None:
    server = RedisServer(tmp_path / "redis")
    server.start()
    client = shop.client = redis.Redis.from_url(server.url)
    shop.settings = replace(settings, redis=RedisConnection(server.url))
    environment = {**worker_environment(shop.settings), "TWINTIDE_WAITING_USERS": "20"}
    worker = WorkerProcess(tmp_path / "worker", environment)
    try:
        worker.start()
        shop.send(1_000)
        until(lambda: worker.metrics().get("twintide_events_total{applied}", 0) == 1_000)
        client.config_set("maxmemory", "1mb")  # less than it has already; nothing is evicted
        for first in range(1_000, 3_000, 100):
            shop.send(100, first=first)
            time.sleep(0.2)
        until(lambda: worker.health()["status"] == "stuck")
        assert "maxmemory" in worker.health()["reason"]
        read = worker.metrics()["twintide_events_total{applied}"]
        assert read < 3_000, "reading goes on although no vector can be written"
        time.sleep(1)
        assert worker.metrics()["twintide_events_total{applied}"] == read
        client.config_set("maxmemory", "0")
        found = shop.prove()
        until(worker.is_ready)
    finally:
        worker.kill()
        server.stop()
        client.close()
    assert found.is_ok, found.complaint
    assert found.applied == 3_000


def test_disk_of_another_deployment_is_not_taken_for_this_ones(
    shop: Shop, worker: WorkerProcess, settings: Settings, tmp_path: Path
) -> None:
    """Another app id, or a changelog that was made again: the disk of before knows nothing of it."""
    worker.start()
    shop.send(400)
    assert shop.prove().is_ok
    worker.stop()
    name = f"{settings.app_id}-2"
    ours = replace(settings, app_id=name, key_prefix=f"{name}:")
    second = WorkerProcess(tmp_path / "worker", worker_environment(ours))
    try:
        second.start()
        found = Shop(ours, shop.client, shop.artifact, shop.published).prove()
        assert found.is_ok, found.complaint
        assert found.applied == 400
        log = second.process.log.read_text()
        assert f"holds windows of another changelog than {changelog_topic(name)} is now" in log
    finally:
        second.kill()
