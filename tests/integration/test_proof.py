"""`python -m local.proof` on a real deployment: right, altered in Redis and in the changelog, and at work."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from confluent_kafka import Producer, TopicPartition

from local.proof import dead_letters
from local.proof.__main__ import main
from local.proof.findings import Apart
from local.proof.proof import Proof, prove
from local.servers import ROOT
from local.worker import WorkerProcess, worker_environment
from models.windows.window import window_from_bytes, window_to_bytes
from stream.kafka.topic_reader import read_all
from stream.kafka.topics import admin_client, changelog_topic, end_offsets
from stream.settings import Settings
from tests.integration.shop import Shop

pytestmark = pytest.mark.integration

USERS = 40


def user(number: int) -> str:
    return f"user {number}#ü"


def run(settings: Settings, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command with these settings."""
    finished = subprocess.run(
        [sys.executable, "-m", "local.proof", *arguments],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), **worker_environment(settings), **variables},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "Traceback" not in finished.stderr, finished.stderr
    return finished


def run_here(settings: Settings, *arguments: str, **variables: str) -> Result:
    """Run the command in this process: another one spends most of its time on imports."""
    finished = CliRunner().invoke(main, arguments, env={**worker_environment(settings), **variables})
    assert finished.exception is None or isinstance(finished.exception, SystemExit), finished.exception
    return finished


def last_window(settings: Settings, user_id: str) -> tuple[int, bytes]:
    """Return the partition and the value of a user's window in the changelog."""
    records = read_all(settings.kafka, changelog_topic(settings.app_id))
    of_user = [each for each in records if (each.key() or b"").decode() == user_id]
    return of_user[-1].partition(), of_user[-1].value()


def write_window(settings: Settings, user_id: str, partition: int, value: bytes | None) -> None:
    producer = Producer(settings.kafka.librdkafka())
    producer.produce(changelog_topic(settings.app_id), value, user_id.encode(), partition)
    assert producer.flush(20) == 0


@pytest.fixture
def deployment(shop: Shop, worker: WorkerProcess) -> Iterator[Settings]:
    """Give a deployment whose worker has stopped after 2,000 events, some of them not what they should be."""
    worker.start()
    shop.send(2_000)
    shop.send(200)  # once more
    shop.send_raw(b"u", b"no json")
    null = {"user_id": "none", "item_id": "new", "behavior_type": 1, "time": 1_417_000_000_000}
    for number in range(3):
        event = {**null, "event_id": f"n{number}", "item_category": None}
        shop.send_raw(b"none", json.dumps(event).encode())
    found = shop.prove()
    assert found.is_ok, found.complaint
    assert (found.applied, found.malformed, found.vectors) == (2_003, 1, USERS + 1)
    worker.stop()
    yield shop.settings


def test_right_deployment_is_proved_and_what_is_missing_or_altered_is_said(
    shop: Shop, deployment: Settings, tmp_path: Path
) -> None:
    is_proved_whole_or_by_a_sample(shop, deployment)
    says_what_is_missing(deployment, tmp_path)
    names_the_user_whose_window_was_altered(deployment)
    names_the_user_whose_vector_was_altered(shop, deployment)


def is_proved_whole_or_by_a_sample(shop: Shop, deployment: Settings) -> None:
    finished = run(deployment)
    assert finished.returncode == 0, finished.stderr
    (line,) = finished.stdout.splitlines()
    assert line.startswith(f"proof: published={shop.published} applied=2003 duplicate=")
    assert line.endswith(" OK")
    first = finished.stderr.splitlines()[0]
    assert first.startswith(f"to read: 2,204 events of {deployment.topic} (4 partitions)")
    assert first.endswith("to check: all users")
    _, value = last_window(deployment, "none")
    assert window_from_bytes(value).categories == ["", "", ""]

    shop.send(500, first=5_000)  # which no worker has read yet
    sampled, again = run_here(deployment, "--sample", "10"), run_here(deployment, "--sample", "10")
    assert sampled.exit_code == 0, sampled.stderr
    assert "not judged: 500 events that are not committed yet" in sampled.stderr
    assert " vectors=10 " in sampled.stdout
    assert sampled.stdout == again.stdout
    assert prove(deployment, sample=10_000).vectors == USERS + 1
    without_vectors = prove(replace(deployment, encode=False))
    assert (without_vectors.is_ok, without_vectors.vectors) == (True, 0)
    assert without_vectors.published == shop.published - 500


def says_what_is_missing(deployment: Settings, tmp_path: Path) -> None:
    for variables, said in (
        ({"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}, "no Kafka at 127.0.0.1:1"),
        ({"REDIS_URL": "redis://127.0.0.1:1/0"}, "no Redis at redis://127.0.0.1:1/0"),
        ({"TWINTIDE_ARTIFACT": str(tmp_path)}, str(tmp_path)),
        ({"TWINTIDE_TOPIC": "no-such-topic"}, "there is no topic no-such-topic"),
        ({"TWINTIDE_APP_ID": "no-such-app"}, "no-such-app-windows-changelog"),
        ({"TWINTIDE_KEY_PREFIX": "nobody:"}, "no model serves users nobody:*"),
    ):
        refused = run_here(deployment, **variables)
        last = refused.stderr.strip().splitlines()[-1]
        assert (refused.exit_code, said in last, refused.stdout) == (2, True, ""), refused.stderr


def names_the_user_whose_window_was_altered(deployment: Settings) -> None:
    partition, value = last_window(deployment, user(3))
    window = window_from_bytes(value)
    window.item_ids[-1] = "another"
    write_window(deployment, user(3), partition, window_to_bytes(window))
    assert prove(deployment).complaint == f"user {user(3)!r}: wrong in the window in the changelog: items"
    window = window_from_bytes(value)
    window.applied -= 1
    write_window(deployment, user(3), partition, window_to_bytes(window))
    assert f"user {user(3)!r}: 54 of 55 events are accounted for" in prove(deployment).complaint
    write_window(deployment, user(3), partition, None)
    found = prove(deployment)
    assert (found.complaint, found.applied) == (f"user {user(3)!r}: the changelog has no window", 2_003 - 50)
    write_window(deployment, user(3), partition, value)
    write_window(deployment, "stranger", partition, value)
    assert prove(deployment).complaint == (
        "user 'stranger': the changelog has a window, the topic has no event"
    )
    write_window(deployment, "stranger", partition, None)
    assert prove(deployment).is_ok


def names_the_user_whose_vector_was_altered(shop: Shop, deployment: Settings) -> None:
    key = deployment.key_prefix + user(7)
    stored = shop.client.hget(key, "vec")
    assert isinstance(stored, bytes)
    vector = np.frombuffer(stored, np.float32) + np.float32(0.01)
    shop.client.hset(key, "vec", vector.tobytes())
    finished = run(deployment)
    assert finished.returncode == 1
    assert f"the proof failed: user {user(7)!r}: Redis has a wrong vec of model " in finished.stderr
    assert finished.stdout.strip().endswith(" FAILED")
    shop.client.delete(key)
    assert f"user {user(7)!r}: Redis has no vector of model " in prove(deployment).complaint
    assert prove(replace(deployment, ttl_s=60)).apart == {Apart.EXPIRED: 1}
    for number in range(USERS):
        shop.client.hset(deployment.key_prefix + user(number), "n", 1)
    assert run_here(deployment, "--sample", "10").exit_code == 1  # whichever ten they are


def test_proof_of_a_deployment_at_work_agrees_and_leaves_nobody_out(
    shop: Shop, worker: WorkerProcess, settings: Settings, until: Callable[..., None]
) -> None:
    worker.start()
    shop.send(2_000)
    found: list[Proof] = []
    with shop.load(first=2_000, events_per_s=400):
        until(lambda: worker.metrics().get("twintide_events_total{applied}", 0) > 2_500)
        for _ in range(3):
            found.append(prove(settings))
            time.sleep(0.3)
    for each in found:
        assert each.is_ok, each.complaint
        assert (each.vectors, each.apart) == (USERS, {})
    assert found[0].published < found[2].published


def test_forgotten_users_dead_letters_and_a_log_that_was_cut_off(
    shop: Shop, worker: WorkerProcess, deployment: Settings
) -> None:
    worker.start()
    forgotten = subprocess.run(
        [sys.executable, "-m", "stream.forget", user(5)],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), **worker_environment(deployment)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert forgotten.returncode == 0, forgotten.stderr
    found = prove(deployment)
    assert found.is_ok, found.complaint
    assert (found.vectors, found.published) == (USERS, shop.published)
    key = deployment.key_prefix + user(5)
    shop.client.copy(deployment.key_prefix + user(4), key)
    assert f"user {user(5)!r}: was forgotten" in prove(deployment).complaint
    shop.client.delete(key)
    (letter,) = dead_letters(deployment)
    elsewhere = replace(deployment, dead_letter_topic=f"{deployment.topic}-none")
    assert f"the event at offset {dict(letter.headers())['offset'].decode()} of" in prove(elsewhere).complaint

    cut_off(deployment)
    found = prove(deployment)
    assert found.is_ok, found.complaint
    assert found.apart[Apart.BEGAN_BEFORE] >= USERS - 1
    assert found.vectors >= USERS - 1
    shop.client.hset(deployment.key_prefix + user(7), "n", 1)
    assert user(7) in prove(deployment).complaint


def cut_off(settings: Settings) -> None:
    """Delete the older half of each partition, as retention does."""
    client = admin_client(settings.kafka)
    half = {partition: end // 2 for partition, end in end_offsets(settings.kafka, settings.topic).items()}
    places = [TopicPartition(settings.topic, partition, offset) for partition, offset in half.items()]
    for future in client.delete_records(places).values():
        future.result(timeout=60)
