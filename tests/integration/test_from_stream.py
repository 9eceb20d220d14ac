"""The stream is the training set: what a worker keeps of every user, as a log, and a model trained on it."""

import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner, Result
from confluent_kafka import Producer

from local.proof import wait_until_committed
from local.servers import ROOT
from local.worker import WorkerProcess, worker_environment
from models.artifact.artifact import load
from models.log.behaviour_log import BehaviourLog
from models.windows.window import Window, WindowSettings, window_to_bytes
from offline import evaluate, train
from offline.stream_log.changelog import read_changelog
from offline.stream_log.log import read_stream_log
from stream.forget import forget
from stream.kafka.group import committed_offsets
from stream.kafka.topic_reader import read_all
from stream.kafka.topics import CHANGELOG_SETTINGS, changelog_topic, ensure_topic
from stream.settings import Settings
from tests.integration.shop import ITEMS, Shop

pytestmark = pytest.mark.integration

USERS, EVENTS = 40, 6_000
FORGOTTEN = "user 7#ü"
#: (time, behaviour, item, category)
Row = tuple[int, int, str, str]


def sent_rows() -> dict[str, list[Row]]:
    """Return what `Shop.send` sends, by user."""
    rows: dict[str, list[Row]] = defaultdict(list)
    for number in range(EVENTS):
        row = (
            1_417_000_000_000 + number * 60_000,
            1 + number % 4,
            f"i{number * 13 % ITEMS}",
            f"c{number % 3}",
        )
        rows[f"user {number * 7 % USERS}#ü"].append(row)
    return rows


def rows_of(log: BehaviourLog) -> dict[str, list[Row]]:
    rows: dict[str, list[Row]] = defaultdict(list)
    columns = (log.time_ms.tolist(), log.behaviour.tolist(), log.item.strings(), log.category.strings())
    for user, row in zip(log.user.strings(), zip(*columns, strict=True), strict=True):
        rows[user].append(row)
    return rows


def invoke(command: ModuleType, settings: Settings, *options: object) -> Result:
    words = ["--from-stream", *map(str, options)]
    return CliRunner().invoke(command.main, words, env=worker_environment(settings))


def test_log_from_the_stream_is_what_was_sent_and_a_model_is_trained_on_it(
    shop: Shop, worker: WorkerProcess, settings: Settings, tmp_path: Path
) -> None:
    worker.start()
    shop.send(EVENTS)
    shop.send(2_000, first=EVENTS - 2_000)  # once more: duplicates
    wait_until_committed(settings, timeout_s=120)
    forget(settings, FORGOTTEN, timeout_s=120)
    committed = committed_offsets(settings.kafka, settings.app_id, settings.topic)
    log = read_stream_log(settings)
    kept = WindowSettings().max_events
    expected = {user: rows[-kept:] for user, rows in sent_rows().items() if user != FORGOTTEN}
    assert len(expected) == USERS - 1
    assert min(map(len, expected.values())) == kept < EVENTS // USERS
    assert rows_of(log) == expected
    assert (log.precision_ms, log.bad_rows) == (1_000, 0)
    worker.stop()
    again = read_stream_log(settings)  # a last checkpoint writes windows, but users have done nothing since
    assert (again.fingerprint, rows_of(again)) == (log.fingerprint, expected)

    (tmp_path / "fast.toml").write_text("dimension = 16\nbatch_size = 4\n")
    done = invoke(train, settings, "--save-dir", tmp_path, "--epochs", 1, "--config", tmp_path / "fast.toml")
    assert done.exit_code == 0, done.output
    assert f"topic {changelog_topic(settings.app_id)}: {len(log):,} rows\n" in done.stdout
    training = load(tmp_path).training
    assert (training["data_rows"], training["data_fingerprint"]) == (len(log), log.fingerprint)
    done = invoke(evaluate, settings, "--artifact", tmp_path)
    assert (done.exit_code, "users with a history" in done.stdout) == (0, True), done.output
    assert committed_offsets(settings.kafka, settings.app_id, settings.topic) == committed


def test_several_processes_train_on_the_same_reading(settings: Settings, tmp_path: Path) -> None:
    fill(settings, {f"u{user}": 30 for user in range(40)})
    (tmp_path / "fast.toml").write_text("dimension = 16\nbatch_size = 4\n")
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    options = ["--save-dir", str(tmp_path), "--epochs", "1", "--config", str(tmp_path / "fast.toml")]
    done = subprocess.run(
        [sys.executable, *torchrun, "-m", "offline.train", "--from-stream", *options],
        env={**os.environ, "PYTHONPATH": str(ROOT), **worker_environment(settings)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert load(tmp_path).training["data_rows"] == 1_200


def fill(settings: Settings, users: dict[str, int]) -> None:
    """Write windows of so many events to the changelog."""
    topic = changelog_topic(settings.app_id)
    ensure_topic(settings.kafka, topic, 2, CHANGELOG_SETTINGS)
    for number, (user, events) in enumerate(users.items()):
        write(settings, number % 2, user, window(events))


def window(events: int, offset: int = 0, topic_id: str = "t") -> bytes:
    return window_to_bytes(
        Window(
            topic_id=topic_id,
            partition=0,
            offset=offset,
            times_ms=[1_417_000_000_000 + number * 3_600_000 for number in range(events)],
            behaviours=[1] * events,
            item_ids=[f"i{number % 10}" for number in range(events)],
            categories=["c"] * events,
            event_hashes=[*range(events)],
        )
    )


def write(settings: Settings, partition: int, user: str | None, value: bytes | None) -> None:
    producer = Producer({**settings.kafka.librdkafka(), "acks": "all"})
    producer.produce(changelog_topic(settings.app_id), value, user, partition=partition)
    assert producer.flush(30) == 0


def test_windows_count_as_in_a_recovery(settings: Settings) -> None:
    fill(settings, {"unchanged": 3, "forgotten": 3, "back": 3, "made again": 3})  # 0, 1, 0, 1
    topic = changelog_topic(settings.app_id)
    for partition, user, value in (
        (0, "unchanged", window(5, offset=8)),
        (1, "forgotten", None),
        (0, "back", None),
        (0, "back", window(1, offset=0)),
        (1, "made again", window(2, offset=0, topic_id="another")),
        (1, "empty", window(0)),
    ):
        write(settings, partition, user, value)
    found = read_changelog(settings.kafka, topic)
    assert found == {
        (0, b"unchanged"): window(5, offset=8),
        (0, b"back"): window(1),
        (1, b"made again"): window(2, topic_id="another"),
        (1, b"empty"): window(0),
    }
    assert {user: len(rows) for user, rows in rows_of(read_stream_log(settings)).items()} == {
        "unchanged": 5,
        "back": 1,
        "made again": 2,
    }
    assert len(list(read_all(settings.kafka, topic))) == 10  # nothing was written


def test_changelog_that_is_missing_or_empty_is_one_line(settings: Settings) -> None:
    topic = changelog_topic(settings.app_id)
    fails(
        settings, f"there is no topic {topic} at {settings.kafka.bootstrap_servers}: start a worker, or set"
    )
    ensure_topic(settings.kafka, topic, 2, CHANGELOG_SETTINGS)
    fails(settings, f"topic {topic}: no user has an event there yet; start a worker, and send events")
    write(settings, 1, "gone", None)
    fails(settings, f"topic {topic}: no user has an event there yet")
    write(settings, 1, "text", b"no window")
    fails(settings, "a stored window has format 6e")


def test_broker_that_is_not_there_is_one_line(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stream.kafka.topics.TIMEOUT_S", 1.0)
    nowhere = {**worker_environment(settings), "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}
    done = CliRunner().invoke(train.main, ["--from-stream"], env=nowhere)
    assert (done.exit_code, len(done.stderr.splitlines())) == (1, 1)
    assert done.stderr.startswith("Error: no Kafka at 127.0.0.1:1 (")


@pytest.mark.parametrize(("option", "value"), [("--data-path", "x.csv"), ("--format", "taobao")])
def test_stream_and_file_exclude_each_other(option: str, value: str) -> None:
    done = CliRunner().invoke(train.main, ["--from-stream", option, value])
    assert (done.exit_code, len(done.stderr.splitlines())) == (2, 1)
    assert f"--from-stream reads no file, so it excludes {option}" in done.stderr


def fails(settings: Settings, message: str) -> None:
    """Check that a training from the stream ends with this line alone."""
    done = invoke(train, settings)
    assert (done.exit_code, len(done.stderr.splitlines())) == (1, 1), done.output
    assert done.stderr.startswith(f"Error: {message}")
