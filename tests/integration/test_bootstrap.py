"""A deployment that starts warm from a file is the one that followed everything live."""

import dataclasses
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import numpy as np
import pytest
import redis
from click.testing import CliRunner, Result

from local.proof import VECTOR_TOLERANCE, prove, wait_until_committed
from local.proof.findings import Apart
from local.worker import WorkerProcess, worker_environment
from models.log.behaviour_log import read_behaviour_log
from models.windows.window import Window, window_from_bytes
from offline.bootstrap import main
from replay.control import Stop
from replay.ordered_log import LogInMemory
from replay.pace import Pace
from replay.publisher import PublisherSettings, ReplayProducer
from replay.run import Replay
from replay.schedule import Schedule, ScheduleSettings
from stream.kafka.group import committed_offsets
from stream.kafka.topic_reader import read_all
from stream.kafka.topics import changelog_topic, end_offsets, ensure_topic
from stream.serving.reader import Reader
from stream.settings import Settings
from tests.integration.shop import Shop

pytestmark = pytest.mark.integration

CUT = "2024-03-05 00:00:00"
USERS = 60


@pytest.fixture(scope="module")
def csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a log of users who come before CUT, after it, or both; rows are not in time order."""
    random = np.random.default_rng(5)
    cut = datetime(2024, 3, 5, tzinfo=UTC)
    lines = []
    for user in range(USERS):
        first, last = ((-80, 0), (0, 80), (-80, 80))[user % 3]
        for _ in range(int(random.integers(1, 200))):
            hours = int(random.integers(first, last))  # many of one time, and more than a window holds
            time = cut + timedelta(hours=hours)
            item = int(random.integers(70))
            lines.append(f"user {user}#ü,i{item},{1 + item % 4},,c{item % 3},{time:%Y-%m-%d %H}")
    path = tmp_path_factory.mktemp("bootstrap") / "behaviour.csv"
    lines = [lines[place] for place in random.permutation(len(lines))]
    path.write_text(
        "\n".join(["user_id,item_id,behavior_type,user_geohash,item_category,time", *lines]), encoding="utf-8"
    )
    return path


def invoke(settings: Settings, csv: Path, *options: str) -> Result:
    return CliRunner().invoke(main, [str(csv), *options], env=worker_environment(settings))


def bootstrap(settings: Settings, csv: Path, *options: str) -> str:
    done = invoke(settings, csv, *options)
    assert done.exit_code == 0, done.output
    return done.stdout


def publish(settings: Settings, csv: Path) -> None:
    schedule = Schedule(LogInMemory(read_behaviour_log(csv)), ScheduleSettings(Pace.of("max")))
    ensure_topic(settings.kafka, settings.topic, settings.partitions)
    with Stop() as stop:
        Replay(schedule, ReplayProducer(settings.kafka, PublisherSettings(settings.topic)), stop).run()


def stored_windows(settings: Settings) -> dict[str, Window]:
    """Return what a restored worker would hold: the last value of every key."""
    values = {
        (record.partition(), record.key()): record.value()
        for record in read_all(settings.kafka, changelog_topic(settings.app_id))
    }
    windows = {key.decode(): window_from_bytes(value) for (_, key), value in values.items() if value}
    assert len(windows) == sum(value is not None for value in values.values()), "a user on two partitions"
    return windows


def without_source(window: Window) -> list[object]:
    """Return all that a window says but where its last event came from, and what became of others."""
    values = msgspec.to_builtins(window)
    return [values[3], *values[6:]]


def vectors(settings: Settings, client: "redis.Redis") -> np.ndarray:
    found = Reader(client, key_prefix=settings.key_prefix).read([f"user {user}#ü" for user in range(USERS)])
    assert not [each.user_id for each in found if each.reason]
    return np.stack([each.vec for each in found])


def test_bootstrap_then_live_equals_live_from_the_beginning(
    settings: Settings, csv: Path, redis_client: "redis.Redis", tmp_path: Path
) -> None:
    live = settings
    warm = dataclasses.replace(live, app_id=f"{live.app_id}-warm", key_prefix=f"{live.key_prefix}warm:")
    both = dataclasses.replace(live, app_id=f"{live.app_id}-both", key_prefix=f"{live.key_prefix}both:")
    publish(live, csv)
    bootstrap(warm, csv, "--until", CUT, "--from", CUT)
    bootstrap(both, csv, "--from", CUT)  # the file has what the topic brings once more
    workers = []
    try:
        for deployment in (live, warm, both):
            worker = WorkerProcess(tmp_path / deployment.app_id, worker_environment(deployment))
            workers.append(worker)
            worker.start(wait=False)
        for deployment in (live, warm, both):
            wait_until_committed(deployment, timeout_s=120)
        expected, expected_vectors = stored_windows(live), vectors(live, redis_client)
        assert len(expected) == USERS
        for deployment in (warm, both):
            found = stored_windows(deployment)
            assert found.keys() == expected.keys()
            assert {user: without_source(each) for user, each in found.items()} == {
                user: without_source(each) for user, each in expected.items()
            }
            assert np.abs(vectors(deployment, redis_client) - expected_vectors).max() < VECTOR_TOLERANCE
        for deployment in (live, warm, both):
            proof = prove(deployment)
            assert (proof.complaint, proof.vectors) == ("", USERS)
            assert proof.apart.keys() <= {Apart.BEGAN_BEFORE}
        applied = workers[1].metrics()["twintide_events_total{applied}"]
        assert 0 < applied < sum(window.applied for window in expected.values())
    finally:
        for worker in workers:
            worker.kill()


def test_without_a_topic_or_artifact_there_are_windows_and_offsets_all_the_same(
    settings: Settings, csv: Path, redis_client: "redis.Redis", tmp_path: Path
) -> None:
    bare = dataclasses.replace(settings, artifact=tmp_path / "none")
    said = bootstrap(bare, csv)
    rows = len(csv.read_text().splitlines()) - 1
    assert said.strip() == f"bootstrapped: users={USERS} events={rows} vectors=0 continues_at=0:0,1:0,2:0,3:0"
    assert len(stored_windows(bare)) == USERS
    assert committed_offsets(bare.kafka, bare.app_id, bare.topic) == {0: 0, 1: 0, 2: 0, 3: 0}
    assert not redis_client.keys(f"{bare.key_prefix}*")


def test_state_is_not_overwritten_unless_asked_for(
    shop: Shop, settings: Settings, csv: Path, worker: WorkerProcess
) -> None:
    shop.send(200)
    worker.start()
    wait_until_committed(settings, timeout_s=120)
    refused = invoke(settings, csv, "--replace")
    assert (refused.exit_code, "a worker of group" in refused.stderr) == (1, True)
    worker.stop()
    refused = invoke(settings, csv)
    assert refused.exit_code == 1
    assert refused.stderr.startswith(f"Error: group {settings.app_id} has read {settings.topic} already")
    assert len(refused.stderr.splitlines()) == 1
    bootstrap(settings, csv, "--replace", "--until", CUT)
    windows = stored_windows(settings)
    assert 0 < len(windows) < USERS
    assert {window.topic_id for window in windows.values()} == {windows["user 0#ü"].topic_id}
    ends = end_offsets(settings.kafka, settings.topic)
    assert all(window.offset == ends[window.partition] - 1 for window in windows.values())
    assert shop.users_with_vectors() == set(windows)
    assert committed_offsets(settings.kafka, settings.app_id, settings.topic) == ends


def test_cold_start_users_have_vectors_before_the_first_worker(
    settings: Settings, csv: Path, redis_client: "redis.Redis"
) -> None:
    bootstrap(settings, csv)
    reader = Reader(redis_client, key_prefix=settings.key_prefix)
    found = [*reader.read(["nobody"]), *reader.read(["nobody"], "c2"), *reader.read(["nobody"], "unknown")]
    assert [each.reason for each in found] == ["cold_start", "category", "cold_start"]


def test_interrupted_bootstrap_is_done_again(settings: Settings, csv: Path, tmp_path: Path) -> None:
    bare = dataclasses.replace(settings, artifact=tmp_path / "none")
    bootstrap(bare, csv)
    # As if it had ended before its last step: a group that never was has no offsets.
    unfinished = dataclasses.replace(bare, topic=f"{bare.topic}-2")
    said = bootstrap(unfinished, csv, "--until", CUT)
    windows = stored_windows(unfinished)
    assert f"users={len(windows)} " in said
    assert len(windows) < USERS
