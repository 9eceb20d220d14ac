"""The worker on real Kafka, Redis and RocksDB: nothing lost, nothing twice, whatever happens to it."""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import redis
from confluent_kafka import Consumer, Producer

from local.proof import dead_letters
from local.redis import RedisServer
from local.servers import ROOT
from local.worker import WorkerProcess, worker_environment
from stream.kafka.group import committed_offsets
from stream.kafka.topics import changelog_topic, end_offsets, ensure_topic
from stream.settings import Settings
from stream.store.connection import RedisConnection
from tests.integration.shop import Shop

logger = logging.getLogger(__name__)

pytestmark = pytest.mark.integration

#: The group waits 10 s for a member, from its last heartbeat, which may be 3 s before it was killed.
IN_TIME_S = 7.0


def test_every_event_is_accounted_for_and_every_vector_is_right(shop: Shop, worker: WorkerProcess) -> None:
    worker.start()
    shop.send(3_000)
    shop.send(500)  # the same events once more
    shop.send_raw(b"u", b"no json")
    shop.send_raw(b"u", None)
    shop.send_raw(b"other", b'{"user_id":"u","item_id":"i","behavior_type":1,"time":1417000000000}')
    shop.send_raw(b"u", b'{"user_id":"u","item_id":"i","behavior_type":9,"time":1417000000000}')
    found = shop.prove()
    assert found.is_ok, found.complaint
    assert (found.applied, found.malformed, found.vectors) == (3_000, 4, 40)
    assert found.duplicate + found.late == 500
    reasons = sorted(dict(each.headers())["reason"] for each in dead_letters(shop.settings))
    assert reasons == [b"behaviour", b"key", b"unreadable", b"unreadable"]


def test_what_ends_transactions_is_no_event_that_is_still_to_be_read(
    shop: Shop, worker: WorkerProcess, settings: Settings, until: Callable[..., None]
) -> None:
    producer = Producer({**settings.kafka.librdkafka(), "transactional.id": settings.topic})
    producer.init_transactions(60)
    shop._producer = producer

    def send(first: int, is_kept: bool) -> None:
        producer.begin_transaction()
        shop.send(500, first=first)
        producer.commit_transaction(60) if is_kept else producer.abort_transaction(60)

    send(0, is_kept=False)  # before there is any event
    worker.start()
    for first, is_kept in ((500, True), (1_000, False), (1_500, True), (2_000, False)):
        send(first, is_kept)
    shop.published = 1_000
    proves(shop, applied=1_000)  # the ends are committed, which `prove` waits for
    ends = end_offsets(settings.kafka, settings.topic)
    assert committed_offsets(settings.kafka, settings.app_id, settings.topic) == ends
    lag = [f"twintide_consumer_lag_events{{{partition}}}" for partition in ends]
    until(lambda: [worker.metrics()[each] for each in lag] == [0] * len(lag))
    send(2_500, is_kept=True)
    shop.published = 1_500
    proves(shop, applied=1_500)


def test_worker_goes_on_where_it_was_after_a_kill_a_lost_disk_and_a_stop(
    shop: Shop, worker: WorkerProcess, settings: Settings, tmp_path: Path, until: Callable[..., None]
) -> None:
    worker.start()
    shop.send(2_000)
    until(lambda: worker.metrics().get("twintide_events_total{applied}", 0) > 500)
    worker.kill()
    shop.send(2_000, first=2_000)
    worker.start()
    shop.send(500, first=4_000)
    proves(shop, applied=4_500)
    worker.kill()
    shop.send(1_000, first=4_500)
    other = WorkerProcess(tmp_path / "other", worker_environment(settings))
    try:
        other.start()  # with the changelog alone
        proves(shop, applied=5_500)
        shop.send(2_000, first=5_500)
        until(lambda: other.metrics().get("twintide_events_total{applied}", 0) >= 3_000)
        assert other.process.pid is not None
        os.kill(other.process.pid, signal.SIGTERM)
        assert other.process.wait(30) == 0, "it ends by itself, and not after minutes"
        proves(shop, applied=7_500)  # nobody is there any more to commit
    finally:
        other.kill()


def proves(shop: Shop, applied: int) -> None:
    """Check that all is committed and right, with so many events applied."""
    found = shop.prove()
    assert found.is_ok, found.complaint
    assert found.applied == applied


def test_worker_stopped_under_load_ends_well_and_leaves_nothing_to_redo(
    shop: Shop, worker: WorkerProcess, settings: Settings, until: Callable[..., None]
) -> None:
    def applied() -> float:
        return worker.metrics().get("twintide_events_total{applied}", 0)

    worker.start()
    with shop.load(first=0, events_per_s=5_000):
        until(lambda: applied() > 2_000)
        assert worker.process.pid is not None
        folded = applied()
        os.kill(worker.process.pid, signal.SIGTERM)
        started = time.monotonic()
        assert worker.process.wait(120) == 0
        logger.info("a worker under load took %.1f s to end", time.monotonic() - started)
    assert sum(committed_offsets(settings.kafka, settings.app_id, settings.topic).values()) >= folded
    worker.start()
    found = shop.prove()
    assert found.is_ok, found.complaint


def test_second_worker_takes_its_share_and_gives_it_back(
    shop: Shop, worker: WorkerProcess, settings: Settings, tmp_path: Path, until: Callable[..., None]
) -> None:
    second = WorkerProcess(tmp_path / "second", worker_environment(settings), "second")
    worker.start()
    shop.send(1_000)
    try:
        second.start()
        shop.send(2_000, first=1_000)
        until(lambda: second.metrics().get("twintide_events_total{applied}", 0) > 0)
        second.stop()
        shop.send(1_000, first=3_000)
        found = shop.prove()
    finally:
        second.kill()
    assert found.is_ok, found.complaint
    assert found.applied == 4_000


def test_static_member_that_is_back_in_time_pauses_nobody_else(
    shop: Shop, worker: WorkerProcess, settings: Settings, tmp_path: Path, until: Callable[..., None]
) -> None:
    environment = {**worker_environment(settings), "TWINTIDE_INSTANCE_ID": "second"}
    second = WorkerProcess(tmp_path / "second", environment, "second")
    worker.start()
    try:
        second.start()
        shop.send(2_000)
        until(lambda: second.metrics().get("twintide_events_total{applied}", 0) > 0)
        for attempt in range(1, 4):
            rebalances = worker.metrics()["twintide_rebalances_total"]
            second.kill()
            killed_at = time.monotonic()
            shop.send(1_000, first=1_000 + attempt * 1_000)
            second.start()
            away_s = time.monotonic() - killed_at
            proves(shop, applied=2_000 + attempt * 1_000)
            if worker.metrics()["twintide_rebalances_total"] == rebalances:
                return
            assert away_s > IN_TIME_S
        pytest.skip(f"no worker starts within {IN_TIME_S:g} s on this machine: the last took {away_s:.0f} s")
    finally:
        second.kill()


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path / "redis", durable=True)
    server.start()
    yield server
    server.stop()


def test_redis_outage_pauses_and_heals(
    shop: Shop, settings: Settings, tmp_path: Path, own_redis: RedisServer, until: Callable[..., None]
) -> None:
    shop.settings = replace(settings, redis=RedisConnection(own_redis.url))
    worker = WorkerProcess(tmp_path / "worker", worker_environment(shop.settings))
    try:
        worker.start()
        shop.send(1_000)
        until(lambda: worker.metrics().get("twintide_events_total{applied}", 0) == 1_000)
        own_redis.kill()
        shop.send(1_000, first=1_000)
        until(lambda: worker.metrics().get("twintide_upserts_total{retried}", 0) > 0)
        own_redis.start()
        shop.client = redis.Redis.from_url(own_redis.url)
        found = shop.prove()
    finally:
        worker.kill()
    assert found.is_ok, found.complaint
    assert found.applied == 2_000


def refused(settings: Settings, *arguments: str, **environment: str) -> tuple[int, str]:
    """Return exit status and last line of a worker that cannot start."""
    command = [str(Path(sys.executable).with_name("faust")), "-A", "stream.app", "worker", *arguments]
    finished = subprocess.run(
        command,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), **worker_environment(settings), **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "Traceback" not in finished.stderr
    return finished.returncode, finished.stderr.strip().splitlines()[-1]


def test_worker_that_cannot_start_says_why_in_one_line(settings: Settings, tmp_path: Path) -> None:
    environment = {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}
    status, line = refused(settings, **environment)
    assert (status, line.startswith("Error: no Kafka at 127.0.0.1:1 (")) == (1, True)
    assert line.endswith(
        "failed: Connection refused): start it with `./run up`, or set KAFKA_BOOTSTRAP_SERVERS"
    )
    status, line = refused(settings, REDIS_URL="redis://127.0.0.1:1/0")
    assert (status, line.startswith("Error: no Redis at redis://127.0.0.1:1/0")) == (1, True)
    status, line = refused(settings, TWINTIDE_ARTIFACT=str(tmp_path / "none"))
    assert (status, "offline.train" in line) == (1, True)
    status, line = refused(settings, TWINTIDE_PARTITIONS="none")
    assert (status, "TWINTIDE_PARTITIONS is 'none'" in line) == (2, True)
    assert refused(settings, "--no-such-option")[0] == 2


def test_topic_narrower_than_its_changelog_is_refused(settings: Settings) -> None:
    ensure_topic(settings.kafka, settings.topic, 4)
    ensure_topic(settings.kafka, changelog_topic(settings.app_id), 6)
    status, line = refused(settings)
    assert status == 2
    assert f"topic {settings.topic} has 4 partitions" in line
    assert "has 6" in line


def test_group_that_another_application_reads_as_is_told_at_the_start_and_later(
    settings: Settings, shop: Shop, worker: WorkerProcess, until: Callable[..., None]
) -> None:
    def another() -> Consumer:
        about = {"group.id": settings.app_id, "client.id": "reports", "log_level": 0}
        consumer = Consumer({**settings.kafka.librdkafka(), **about})
        consumer.subscribe([settings.topic])

        def has_joined() -> bool:
            consumer.poll(0.1)
            return bool(consumer.assignment())

        until(has_joined)
        return consumer

    shop.send(10)
    reports = another()
    status, line = refused(settings)
    assert (status, line.startswith("Error: reports at /127.0.0.1 reads as group ")) == (1, True)
    reports.close()
    worker.start()
    proves(shop, applied=10)
    assert worker.process.pid is not None
    os.kill(worker.process.pid, signal.SIGSTOP)  # until the group has given it up
    reports = another()
    os.kill(worker.process.pid, signal.SIGCONT)
    assert worker.process.wait(60) == 1
    reports.close()
    assert "reads as group" in worker.process.log.read_text()


def test_keys_that_another_topic_fills_are_told_at_the_start_and_later(
    settings: Settings, shop: Shop, worker: WorkerProcess, redis_client: redis.Redis
) -> None:
    shop.send(10)
    worker.start()
    proves(shop, applied=10)
    other = replace(settings, app_id=f"{settings.app_id}-other", topic=f"{settings.topic}-other")
    status, line = refused(other)
    assert (status, f"filled from topic {settings.topic} of Kafka cluster " in line) == (2, True)
    proves(shop, applied=10)
    redis_client.set(f"twintide:source:{settings.key_prefix}", "topic theirs of Kafka cluster 2", ex=30)
    assert worker.process.wait(60) == 1
    assert "filled from topic theirs of Kafka cluster 2" in worker.process.log.read_text().splitlines()[-1]
