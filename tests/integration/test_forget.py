"""Users who ask to be forgotten, and users not seen for long: gone from disk, changelog and Redis."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from local.proof.findings import Apart
from local.servers import ROOT
from local.worker import WorkerProcess, worker_environment
from stream.forget import NotForgottenError, forget_item
from stream.forget import forget as forget_user
from stream.items.snapshots import snapshots_topic
from stream.kafka.topic_reader import read_all
from stream.kafka.topics import changelog_topic, ensure_topic, partition_counts
from stream.settings import Settings
from tests.integration.shop import Shop

pytestmark = pytest.mark.integration

USER = "user 7#ü"


def forget(
    settings: Settings, user_id: str = USER, timeout_s: float = 60
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stream.forget", user_id, "--timeout-s", str(timeout_s)],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), **worker_environment(settings)},
        capture_output=True,
        text=True,
        timeout=timeout_s + 60,
    )


def last_values(settings: Settings) -> dict[bytes, bytes | None]:
    """Return the last value of every key of the changelog, None for a tombstone."""
    records = read_all(settings.kafka, changelog_topic(settings.app_id))
    return {record.key(): record.value() for record in records}


def has_key(client: "redis.Redis", settings: Settings, user_id: str = USER) -> bool:
    return bool(client.exists(settings.key_prefix + user_id))


def test_forgotten_user_is_gone_everywhere_and_begins_anew_with_the_next_event(
    shop: Shop, worker: WorkerProcess, settings: Settings, tmp_path: Path
) -> None:
    worker.start()
    shop.send(1_000)
    assert shop.prove().is_ok
    assert has_key(shop.client, settings)
    assert last_values(settings)[USER.encode()] is not None
    shop.client.set(USER, "[1.0]")  # what offline.export writes for who reads the original's format
    done = forget(settings)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"forgotten: user {USER!r} partition=")
    assert done.stdout.strip().endswith("nothing is kept")
    assert last_values(settings)[USER.encode()] is None
    assert not has_key(shop.client, settings)
    assert not shop.client.exists(USER)
    worker.kill()
    worker.start()  # what is restored, and what comes again, must not bring the user back
    shop.send(40, users=6, first=1_000)
    shop.prove()
    assert last_values(settings)[USER.encode()] is None
    assert not has_key(shop.client, settings)
    event = {"user_id": USER, "item_id": "i1", "behavior_type": 1, "time": 1_418_000_000_000}
    shop.send_raw(USER.encode(), json.dumps(event).encode())
    shop.prove()
    assert shop.client.hget(settings.key_prefix + USER, "n") == b"1"


def test_worker_that_was_frozen_since_before_writes_no_old_copy_when_it_wakes(
    shop: Shop, settings: Settings, tmp_path: Path, until: Callable[..., None]
) -> None:
    usual = worker_environment(settings)
    frozen = WorkerProcess(tmp_path / "frozen", {**usual, "TWINTIDE_CHECKPOINT_S": "60"}, "frozen")
    successor = WorkerProcess(tmp_path / "successor", usual, "successor")
    try:
        frozen.start()
        shop.send(400)
        until(lambda: has_key(shop.client, settings))
        frozen.pause()  # its windows are in memory alone
        assert USER.encode() not in last_values(settings)
        successor.start(wait=False)
        until(lambda: successor.is_ready() and successor.health()["partitions"] == settings.partitions)
        assert forget(settings).returncode == 0
        frozen.resume()
        until(lambda: "another worker's by now" in frozen.process.log.read_text())
        until(lambda: frozen.is_ready() and frozen.health()["partitions"] > 0)
        frozen.stop()
        assert last_values(settings)[USER.encode()] is None
        assert shop.prove().is_ok
    finally:
        frozen.kill()
        successor.kill()


def test_forgotten_in_one_breath_with_events_before_and_after(
    shop: Shop, worker: WorkerProcess, settings: Settings
) -> None:
    shop.send(1_000)
    process = subprocess.Popen(
        [sys.executable, "-m", "stream.forget", USER],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), **worker_environment(settings)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    output, errors = process.communicate(timeout=120)
    assert (process.returncode, "start a worker" in errors) == (1, True), output
    worker.start()  # makes the changelog
    assert forget(settings).returncode == 0
    assert not has_key(shop.client, settings)


def test_forget_without_a_worker_says_so(shop: Shop, worker: WorkerProcess, settings: Settings) -> None:
    worker.start()
    shop.send(100)
    assert shop.prove().is_ok
    worker.stop()
    done = forget(settings, timeout_s=3)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: no worker has forgotten user")
    worker.start()  # it finds what was asked meanwhile
    shop.prove()
    assert last_values(settings)[USER.encode()] is None
    assert not has_key(shop.client, settings)


def test_users_not_seen_for_a_horizon_are_swept(
    shop: Shop, settings: Settings, tmp_path: Path, until: Callable[..., None]
) -> None:
    environment = {**worker_environment(settings), "TWINTIDE_SWEEP_EVERY_S": "1"}
    worker = WorkerProcess(tmp_path / "worker", environment)
    try:
        worker.start()
        shop.send(400)
        assert shop.prove().is_ok
        # Everybody but the first twenty users falls silent, and 31 days pass on the topic.
        shop.send(1_000, users=20, first=31 * 24 * 60 + 1_000)
        until(lambda: not has_key(shop.client, settings, "user 25#ü"))
        shop.prove()
        until(lambda: sum(value is not None for value in last_values(settings).values()) == 20)
        found = shop.prove()
    finally:
        worker.kill()
    assert (found.complaint, found.vectors, found.apart) == ("", 20, {Apart.DROPPED: 20})
    values = last_values(settings)
    assert len(values) == 40
    kept = {key.decode() for key, value in values.items() if value is not None}
    assert kept == {f"user {number}#ü" for number in range(20)}
    assert shop.users_with_vectors() == kept


@pytest.mark.parametrize("is_item", [False, True])
def test_topic_that_is_not_there_is_named_and_not_made(settings: Settings, is_item: bool) -> None:
    states = snapshots_topic(settings.app_id, "0123456789ab")
    for topic in (changelog_topic(settings.app_id), states):
        ensure_topic(settings.kafka, topic, 1)
    ask = forget_item if is_item else forget_user
    with pytest.raises(NotForgottenError, match=f"there is no topic {settings.topic}: set TWINTIDE_TOPIC"):
        ask(settings, "u", 30.0)
    assert settings.topic not in partition_counts(settings.kafka)
