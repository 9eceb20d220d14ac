"""A step publishes once, whatever is killed, and refuses what ranks worse."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import pytest
import redis
from click.testing import CliRunner

from models.artifact.artifact import load, publish
from models.artifact.local_store import PUBLICATIONS, LocalStore
from models.artifact.publications import OvertakenError
from models.log.behaviour_log import BehaviourLog, read_behaviour_log
from offline import train
from offline.continual import step as continual_step
from offline.continual.pause import Pause
from offline.continual.service import Status, serve
from offline.continual.step import Done, Step
from offline.training.continuing import Learned, go_on_from
from stream.store.connection import RedisConnection
from stream.store.lease import Lease, LeaseLostError, lease_key
from stream.store.model_registry import ModelRegistry

pytestmark = pytest.mark.integration

FAST = "dimension = 16\ndropout = 0.1\nshort_events = 4\nlr = 0.01\nbatch_size = 4\nepochs = 6\n"
HELD_BACK = 60
KEY = lease_key("user:")

#: Where a trainer is killed, and how many publications there are then: one is of the model before.
KILLED_AT = {
    "offline.continual.step:judge": 1,
    "models.artifact.writing:place": 1,
    "offline.continual.step:Step._publish": 1,
    "models.artifact.local_store:LocalStore._link": 2,
    "stream.store.model_registry:ModelRegistry.forget_refusal": 2,
}
KILLER = """
import importlib, os, signal, sys
module, _, path = sys.argv.pop(1).partition(":")
*owners, name = path.split(".")
owner = importlib.import_module(module)
for each in owners:
    owner = getattr(owner, each)
setattr(owner, name, lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
from offline.trainer import main
main()
"""


@pytest.fixture(scope="module")
def made(walk_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with a log, and a store with a model trained on its earlier 70 %."""
    folder = tmp_path_factory.mktemp("continual")
    header, *rows = walk_csv.read_text().splitlines()
    rows = sorted(rows, key=lambda row: row.split(",")[5])[:-1]  # without the one far behind the others
    (folder / "earlier.csv").write_text("\n".join([header, *rows[: len(rows) * 7 // 10]]) + "\n")
    (folder / "all.csv").write_text("\n".join([header, *rows]) + "\n")
    (folder / "fast.toml").write_text(FAST)
    words = ["--data-path", folder / "earlier.csv", "--save-dir", folder / "s"]
    done = CliRunner().invoke(train.main, [*map(str, words), "--config", str(folder / "fast.toml")])
    assert done.exit_code == 0, done.output
    return folder


@pytest.fixture
def store(made: Path, tmp_path: Path) -> LocalStore:
    """Give a copy of that store."""
    shutil.copytree(made / "s", tmp_path / "s", symlinks=True)
    return LocalStore(tmp_path / "s")


@pytest.fixture
def lease(redis_client: "redis.Redis") -> Iterator[Lease]:
    """Give a lease that this process has."""
    found = Lease(redis_client, "user:")
    assert found.take()
    yield found
    found.give_up()


@pytest.fixture
def step(
    made: Path, store: LocalStore, lease: Lease, redis_client: "redis.Redis"
) -> Callable[[BehaviourLog], Done]:
    """Give what makes a step with a log."""
    registry = ModelRegistry(redis_client)
    return lambda log: Step(lambda: log, store, registry, lease, HELD_BACK)()


def publications(store: LocalStore) -> int:
    return len((store.where / PUBLICATIONS).read_text().splitlines())


def learn_nonsense(patch: pytest.MonkeyPatch, seed: int) -> None:
    """Have steps learn from logs whose items are shuffled; what they are judged by is as it was."""

    def go_on(before: Learned, log: BehaviourLog, *rest: Any) -> Learned:
        codes = np.random.default_rng(seed).permutation(log.item.codes)
        return go_on_from(before, replace(log, item=replace(log.item, codes=codes)), *rest)

    patch.setattr(continual_step, "go_on_from", go_on)


def test_good_rows_are_learned_and_published_once(
    step: Callable[[BehaviourLog], Done], made: Path, store: LocalStore
) -> None:
    log, before = read_behaviour_log(made / "all.csv"), store.current()
    done = step(log)
    assert done.result == "published", done.line
    after = load(store.where)
    assert after.version in done.line
    assert after.training["continued_from"] == before.version
    assert after.training["learned_until_ms"] == log.time_ms.max()
    assert after.metrics["gate"]["before"] > 0
    assert step(log).result == "too_few"
    assert publications(store) == 2


@pytest.mark.parametrize("seed", range(4))
def test_model_that_learned_shuffled_items_is_refused_and_the_one_before_stays(
    step: Callable[[BehaviourLog], Done],
    made: Path,
    store: LocalStore,
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
) -> None:
    before = store.current()
    learn_nonsense(monkeypatch, seed)
    done = step(read_behaviour_log(made / "all.csv"))
    assert done.result == "refused", done.line
    assert "it ranks worse: ndcg" in done.line
    assert store.current() == before


def test_what_was_taken_back_is_not_published_again_from_the_same_rows(
    step: Callable[[BehaviourLog], Done], made: Path, store: LocalStore
) -> None:
    log, before = read_behaviour_log(made / "all.csv"), store.current()
    assert step(log).result == "published"
    publish(store.where, before.version)  # as a rollback does
    done = step(log)
    assert (done.result, store.current().version) == ("refused", before.version)
    assert "was published before and taken back" in done.line


def test_trainer_that_lost_its_lease_publishes_nothing(
    step: Callable[[BehaviourLog], Done], made: Path, store: LocalStore, redis_client: "redis.Redis"
) -> None:
    redis_client.set(KEY, "another")
    with pytest.raises(LeaseLostError, match="does not lead any more"):
        step(read_behaviour_log(made / "all.csv"))
    assert publications(store) == 1


def test_what_somebody_else_published_meanwhile_is_not_replaced(
    made: Path, store: LocalStore, lease: Lease, redis_client: "redis.Redis"
) -> None:
    log, held_out = read_behaviour_log(made / "all.csv"), load(store.where).training["held_out_version"]

    def read() -> BehaviourLog:
        publish(store.where, held_out)
        return log

    with pytest.raises(OvertakenError, match="somebody else has published"):
        Step(read, store, ModelRegistry(redis_client), lease, HELD_BACK)()
    assert store.current().version == held_out
    assert publications(store) == 2


def test_it_waits_until_readers_get_what_is_published(
    step: Callable[[BehaviourLog], Done], made: Path, redis_client: "redis.Redis", store: LocalStore
) -> None:
    registry = ModelRegistry(redis_client)
    registry.serve(load(store.where).training["held_out_version"], 1)
    assert step(read_behaviour_log(made / "all.csv")).result == "rolling_out"
    registry.serve(store.current().version, 2)
    assert step(read_behaviour_log(made / "all.csv")).result == "published"


def test_one_leads_and_the_other_takes_over_when_it_ends(redis_client: "redis.Redis") -> None:
    first, second = (Lease(redis_client, "user:", lease_s=6.0) for _ in range(2))
    assert first.take()
    left_ms = int(str(redis_client.pttl(KEY)))
    while left_ms >= int(str(redis_client.pttl(KEY))):  # until it was renewed
        left_ms = int(str(redis_client.pttl(KEY)))
        assert left_ms > 0
        time.sleep(0.1)
    assert not second.take()
    steps, stop = list[str](), Event()

    def one_step() -> Done:
        steps.append("second")
        stop.set()
        return Done("too_few", "")

    waiting = Thread(target=serve, args=[one_step, second, Pause(3600.0, 0, lambda: 0), stop, Status()])
    waiting.start()
    time.sleep(1)
    assert not steps
    first.give_up()
    waiting.join(timeout=60)
    assert steps == ["second"]
    assert not redis_client.exists(KEY)


def run(made: Path, store: LocalStore, url: str, kill_at: str = "") -> "subprocess.CompletedProcess[str]":
    options = ["--once", "--data-path", str(made / "all.csv"), "--min-held-out", str(HELD_BACK)]
    program = ["-c", KILLER, kill_at] if kill_at else ["-m", "offline.trainer"]
    environment = {**os.environ, "REDIS_URL": url, "TWINTIDE_ARTIFACT": str(store.where)}
    return subprocess.run(
        [sys.executable, *program, *options], env=environment, capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize("place", KILLED_AT)
def test_killed_anywhere_a_step_is_published_once_at_last(
    made: Path, store: LocalStore, redis_connection: RedisConnection, redis_client: "redis.Redis", place: str
) -> None:
    before = store.current()
    killed = run(made, store, redis_connection.url, place)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert publications(store) == KILLED_AT[place]
    assert 0 < int(str(redis_client.pttl(KEY))) <= 30_000  # runs out by itself; the test does not wait for it
    redis_client.delete(KEY)
    for _ in range(2):
        again = run(made, store, redis_connection.url)
        assert again.returncode == 0, again.stderr
    assert "too few" in again.stdout
    assert publications(store) == 2
    assert load(store.where).training["continued_from"] == before.version
