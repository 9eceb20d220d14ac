"""`./run bench curve`: freshness while a worker is killed, Redis restarts and the model changes."""

import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import redis

from bench.harness.artifact import two_untrained
from bench.harness.behaviour import distinct, make_log
from bench.harness.report import Report, Result, print_table
from bench.harness.stage import Stage, stage
from bench.harness.timeline import Moment, TimedEvents, draw, freshness_by_moment
from bench.harness.traffic import WARM_UP_EVENTS, SteadyTraffic
from local.freshness import FreshnessProbe
from local.redis import RedisServer
from local.worker import WorkerProcess, worker_environment
from models.artifact import artifact as artifacts
from models.artifact.stores import open_store
from models.command import Command, log_to_stderr
from models.errors import SettingsError, TwintideError
from models.ids.log_vocabulary import vocabulary_of_log
from models.log.behaviour_log import BehaviourLog
from offline.publishing.publication import publish_artifact
from stream.kafka.topics import ensure_topic
from stream.settings import Settings
from stream.store.connection import RedisConnection
from stream.store.model_registry import ModelRegistry

PARTITIONS = 4
#: How long Redis is down (s).
OUTAGE_S = 3.0
#: How long a worker stays dead (s): longer than the group needs to notice.
DEAD_S = 20.0

REPORT_COLUMNS = {
    "p50 ms": ",.0f",
    "p99 ms": ",.0f",
    "worst s": ",.1f",
    "fresh after s": ",.1f",
    "command s": ",.2f",
}


@click.command(cls=Command, context_settings={"max_content_width": 110})
@click.option("--rate", default=1_000, show_default=True, help="Events per second.")
@click.option("--users", default=10_000, show_default=True, help="Users, with a heavy tail.")
@click.option("--rest-s", default=15.0, show_default=True, help="Seconds between two disturbances.")
@click.option("--png", type=click.Path(path_type=Path), help="Draw the curve into this file.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the result to this file.")
def main(rate: int, users: int, rest_s: float, png: Path | None, json_path: Path | None) -> None:
    """Measure how fresh vectors are while things go wrong, from outside the workers.

    A producer sends events at a steady rate, two workers follow, and a probe asks Redis for the users of a
    hundred events a second until their vectors know the event. Then, in turn: one worker is killed with -9,
    and started again 20 s later; Redis is killed, and comes back empty after 3 s; another model is published;
    and it is rolled back. Everything shares the machine.

    \b
    Example: ./run bench curve --png curve.png
    """
    log_to_stderr()
    if min(rate, users) < 1 or rest_s < 1:
        raise SettingsError("--rate, --users and --rest-s must be at least 1")
    moments, samples = run(rate, users, rest_s)
    results = freshness_by_moment(moments, samples)
    _print(results)
    if json_path:
        Report({"rate": rate, "users": users, "rest_s": rest_s}, results).write(json_path)
    if png:
        draw(moments, samples, png)


def run(rate: int, users: int, rest_s: float) -> tuple[list[Moment], TimedEvents]:
    """Return what happened, and of each timed event when it was sent and how long it waited (s) (E, 2)."""
    seconds = int(4 * rest_s + 2 * DEAD_S + OUTAGE_S + 60)
    log = distinct(make_log(WARM_UP_EVENTS + 2 * rate * seconds, users))
    with stage(PARTITIONS) as here, ExitStack() as stack:
        store = RedisServer(here.directory / "redis")
        stack.callback(store.stop)
        store.start()
        here = replace(here, redis=RedisConnection(store.url))
        first, second = two_untrained(here.artifact_store, vocabulary_of_log(log))
        artifacts.publish(here.artifact_store, first.name)
        topic = f"{here.prefix}-events"
        ensure_topic(here.kafka, topic, PARTITIONS)
        settings = here.settings("twintide", topic)
        environment = worker_environment(settings)
        names = ("worker0", "worker1")
        workers = [WorkerProcess(here.directory / name, environment, name) for name in names]
        for worker in workers:
            stack.callback(worker.kill)
            worker.start()
        with _traffic(here, settings, log, rate) as probe:
            moments = list(_disturb(workers, store, settings, second, rest_s))
        return moments, np.array(probe.timed)


@contextmanager
def _traffic(here: Stage, settings: Settings, log: BehaviourLog, rate: int) -> Iterator[FreshnessProbe]:
    first = log.select(np.arange(WARM_UP_EVENTS))
    rest = log.select(np.arange(WARM_UP_EVENTS, len(log)))
    warm_up = SteadyTraffic(here.kafka, settings.topic, first, WARM_UP_EVENTS // 4)
    warm_up.start()
    time.sleep(6)
    warm_up.finish()
    with redis.Redis.from_url(settings.redis.url, socket_timeout=1) as client:
        probe = FreshnessProbe(settings, client, sample_every=max(rate // 100, 1))
        probe.start()
        producer = SteadyTraffic(here.kafka, settings.topic, rest, rate)
        producer.start()
        try:
            yield probe
        finally:
            producer.finish()
            probe.stop()


def _disturb(
    workers: list[WorkerProcess], store: RedisServer, settings: Settings, second: Path, rest_s: float
) -> Iterator[Moment]:
    registry = ModelRegistry(redis.Redis.from_url(settings.redis.url), settings.key_prefix)
    yield _now("calm")
    time.sleep(rest_s)
    yield _now("one of two workers killed")
    workers[1].kill()
    time.sleep(DEAD_S)
    yield _now("started again")
    workers[1].start()
    yield _now("ready again")
    time.sleep(rest_s)
    yield _now("Redis killed, back empty")
    store.kill()
    time.sleep(OUTAGE_S)
    store.start()
    _wait(lambda: not registry.progress().to_backfill)
    yield _now("all users written again")
    time.sleep(rest_s)
    version, _ = publish_artifact(second, open_store(second.parent))
    yield _now("model published")
    _wait(lambda: (models := registry.read()) is not None and models.serving.version == version)
    yield _now("model served")
    time.sleep(rest_s)
    yield _roll_back(settings)
    time.sleep(rest_s)


def _roll_back(settings: Settings) -> Moment:
    """Roll back by the command, whose time is that until readers get the model before."""
    moment = _now("rolled back")
    command = [sys.executable, "-P", "-m", "offline.publish", "--rollback"]
    subprocess.run(command, env={**os.environ, **worker_environment(settings)}, check=True)
    return replace(moment, took_s=time.time() - moment.at_s)


def _now(name: str) -> Moment:
    click.echo(name, err=True)
    return Moment(name, time.time())


def _wait(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    time.sleep(2)  # workers poll once a second
    while not condition():
        if time.monotonic() > deadline:
            raise TwintideError(f"what was waited for did not come in {timeout_s:g} s: see the workers' logs")
        time.sleep(0.1)


def _print(results: dict[str, Result]) -> None:
    rows = {
        name: {
            "p50 ms": result["p50_ms"],
            "p99 ms": result["p99_ms"],
            "worst s": result["worst_s"],
            "fresh after s": result["fresh_after_s"],
            "command s": result.get("took_s", math.nan),
        }
        for name, result in results.items()
    }
    print_table("freshness of the events sent from each moment to the next", rows, REPORT_COLUMNS)


if __name__ == "__main__":
    main(prog_name="./run bench curve")
