"""`./run bench curve`: freshness while a worker is killed, Redis restarts and the model changes."""

import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt
import redis
import torch

from bench.harness.behaviour import distinct, make_log
from bench.harness.report import Report, Result, print_table
from bench.harness.stage import Stage, stage
from local.freshness import FreshnessProbe
from local.redis import RedisServer
from local.worker import WorkerProcess, worker_environment
from models.artifact import artifact as artifacts
from models.command import Command, log_to_stderr
from models.errors import SettingsError, TwintideError
from models.ids.log_vocabulary import vocabulary_of_log
from models.ids.vocabulary import Vocabulary
from models.log.behaviour_log import BehaviourLog
from models.towers.dual_towers import DualTowers
from offline.publishing.publication import publish_artifact
from replay.publisher import PublisherSettings, ReplayProducer
from replay.source import MessageSource
from stream.kafka.topics import ensure_topic
from stream.settings import Settings
from stream.store.connection import RedisConnection
from stream.store.model_registry import ModelRegistry

#: When each timed event was sent (epoch s), and how long it waited (s): (E, 2).
Timed = npt.NDArray[np.float64]

PARTITIONS = 4
#: The producer sends what is due this often (s), each time with one send time.
TICK_S = 0.01
#: Events sent ahead, so that caches and windows are filled.
WARM_UP_EVENTS = 20_000
#: Vectors count as fresh again when no event waits longer (s).
FRESH_S = 0.5
#: How long Redis is away (s).
OUTAGE_S = 3.0
#: How long a worker stays dead (s): longer than the group needs to notice.
DEAD_S = 20.0

FORMATS = {
    "p50 ms": ",.0f",
    "p99 ms": ",.0f",
    "worst s": ",.1f",
    "fresh after s": ",.1f",
    "command s": ",.2f",
}


@dataclass(frozen=True, slots=True)
class Moment:
    """Something that happened, and when (wall-clock, s)."""

    name: str
    at_s: float
    #: How long it took, where a command did it (s).
    took_s: float = math.nan


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
    results = summarise(moments, samples)
    _print(results)
    if json_path:
        Report({"rate": rate, "users": users, "rest_s": rest_s}, results).write(json_path)
    if png:
        draw(moments, samples, png)


class Producer(threading.Thread):
    """Sends events at a steady rate until `finish`."""

    def __init__(self, here: Stage, topic: str, log: BehaviourLog, rate: int) -> None:
        super().__init__(daemon=True)
        self._publisher = ReplayProducer(here.kafka, PublisherSettings(topic=topic, linger_ms=1))
        self._source = MessageSource(log)
        self._rate = rate
        self._is_over = threading.Event()

    def run(self) -> None:
        sent, started = 0, time.monotonic()
        while not self._is_over.wait(TICK_S):
            due = min(int((time.monotonic() - started) * self._rate), len(self._source.log))
            self._publisher.send(self._source.messages(slice(sent, due)))
            sent = due
        self._publisher.finish()

    def finish(self) -> None:
        """Stop, and return when Kafka has taken everything."""
        self._is_over.set()
        self.join()


def run(rate: int, users: int, rest_s: float) -> tuple[list[Moment], Timed]:
    """Return what happened, and of each timed event when it was sent and how long it waited (s) (E, 2)."""
    seconds = int(4 * rest_s + 2 * DEAD_S + OUTAGE_S + 60)
    log = distinct(make_log(WARM_UP_EVENTS + 2 * rate * seconds, users))
    with stage(PARTITIONS) as here, ExitStack() as stack:
        store = RedisServer(here.directory / "redis")
        stack.callback(store.stop)
        store.start()
        here = replace(here, redis=RedisConnection(store.url))
        first, second = _two_models(here.artifact_store, vocabulary_of_log(log))
        artifacts.publish(here.artifact_store, first.name)
        topic = f"{here.prefix}-events"
        ensure_topic(here.kafka, topic, PARTITIONS)
        settings = Settings(
            kafka=here.kafka,
            redis=here.redis,
            artifact=here.artifact_store,
            app_id=here.group("twintide"),
            topic=topic,
            dead_letter_topic=f"{here.prefix}-dlq",
            key_prefix=f"{here.prefix}-twintide:",
        )
        environment = worker_environment(settings)
        names = ("worker0", "worker1")
        workers = [WorkerProcess(here.directory / name, environment, name) for name in names]
        for worker in workers:
            stack.callback(worker.kill)
            worker.start()
        with _traffic(here, settings, log, rate) as probe:
            moments = list(_disturb(workers, store, settings, second, rest_s))
        return moments, np.array(probe.timed)


def _two_models(directory: Path, vocabulary: Vocabulary) -> tuple[Path, Path]:
    """Return two untrained artifacts of a store."""
    found = []
    for seed in range(2):
        torch.manual_seed(seed)
        settings = artifacts.ArtifactSettings()
        towers = DualTowers(vocabulary, settings.features, settings.model)
        found.append(artifacts.save(directory, towers, vocabulary, settings, {}, {}).path)
    return found[0], found[1]


@contextmanager
def _traffic(here: Stage, settings: Settings, log: BehaviourLog, rate: int) -> Iterator[FreshnessProbe]:
    warm_up = Producer(here, settings.topic, log.select(np.arange(WARM_UP_EVENTS)), WARM_UP_EVENTS // 4)
    warm_up.start()
    time.sleep(6)
    warm_up.finish()
    with redis.Redis.from_url(settings.redis.url, socket_timeout=1) as client:
        probe = FreshnessProbe(settings, client, sample_every=max(rate // 100, 1))
        probe.start()
        producer = Producer(here, settings.topic, log.select(np.arange(WARM_UP_EVENTS, len(log))), rate)
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
    version, _ = publish_artifact(second, second.parent)
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
    time.sleep(2)  # workers look once a second
    while not condition():
        if time.monotonic() > deadline:
            raise TwintideError(f"what was waited for did not come in {timeout_s:g} s: see the workers' logs")
        time.sleep(0.1)


def summarise(moments: list[Moment], samples: Timed) -> dict[str, Result]:
    """Return, from each moment to the next, how fresh the events sent then were, and when all were again."""
    results: dict[str, Result] = {}
    ends = [*(moment.at_s for moment in moments[1:]), np.inf]
    for moment, end_s in zip(moments, ends, strict=True):
        sent_s, waited_s = samples[(samples[:, 0] >= moment.at_s) & (samples[:, 0] < end_s)].T
        if not len(sent_s):
            continue
        stale = waited_s > FRESH_S
        readable_s = (sent_s + waited_s)[stale]
        results[moment.name] = {
            "p50_ms": float(np.percentile(waited_s, 50) * 1000),
            "p99_ms": float(np.percentile(waited_s, 99) * 1000),
            "worst_s": float(waited_s.max()),
            "fresh_after_s": float(readable_s.max() - moment.at_s) if stale.any() else 0.0,
        }
        if not math.isnan(moment.took_s):
            results[moment.name]["took_s"] = moment.took_s
    return results


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
    print_table("freshness of the events sent from each moment to the next", rows, FORMATS)


def draw(moments: list[Moment], samples: Timed, png: Path) -> None:
    """Write the curve as a picture: median and worst of each half second's events, by the time of sending."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise SettingsError("--png needs matplotlib: pip install matplotlib") from error
    figure = Figure(figsize=(11, 5), layout="constrained")
    axes = figure.subplots()
    started_s = moments[0].at_s
    bins = ((samples[:, 0] - started_s) // 0.5).astype(int)
    for name, of_bin in (("median", np.median), ("worst", np.max)):
        places = np.unique(bins)
        values = [of_bin(samples[bins == place, 1]) for place in places]
        axes.plot(places * 0.5, values, label=name, linewidth=1)
    for moment in moments[1:]:
        axes.axvline(moment.at_s - started_s, color="grey", linewidth=0.8)
        axes.text(moment.at_s - started_s, 30, f" {moment.name}", rotation=90, va="top", fontsize=8)
    axes.set(xlabel="event sent (s)", ylabel="until its user's vector is readable (s)")
    axes.set(yscale="log", ylim=(0.005, 40))
    axes.legend(loc="upper left")
    axes.grid(alpha=0.3)
    figure.savefig(png, dpi=120)


if __name__ == "__main__":
    main(prog_name="./run bench curve")
