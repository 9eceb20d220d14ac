"""`./run bench live-items`: events a second through an item learner, and how soon a new item is ranked."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
from confluent_kafka import Producer

from bench.harness import topics
from bench.harness.artifact import publish_untrained
from bench.harness.behaviour import CATEGORIES, make_log
from bench.harness.contestants import WatchedWorker
from bench.harness.report import Report, Result, print_table
from bench.harness.stage import Stage, stage
from bench.harness.traffic import SteadyTraffic
from local.worker import worker_environment
from models.artifact.artifact import load
from models.command import Command, log_to_stderr
from models.errors import SettingsError, TwintideError
from models.ids.vocabulary import Vocabulary
from models.ids.vocabulary_file import FIRST_KNOWN
from models.items.learner import ItemLearner
from models.log.behaviour_log import BehaviourLog
from stream.events.decoder import decoder_of
from stream.items.merge import Position
from stream.items.source import Source
from stream.kafka.topics import end_offsets, topic_id
from stream.serving.reader import Reader
from stream.serving.recommender import Recommender
from stream.settings import Settings
from stream.store.clients import redis_client
from stream.store.model_registry import ModelRegistry

PARTITIONS = 4
SMOKE_EVENTS, SMOKE_ITEMS, SMOKE_RATE, SMOKE_SECONDS = 20_000, 1_000, 200, 5
#: How often it is asked what the learner has done, and whether a new item is ranked (s).
POLL_S, ASK_S = 0.05, 0.02
#: The learner may take so long until it is there, and until it has learned what is on the topic (s).
START_S, LEARNED_S = 240.0, 600.0
#: Share of the events that it says at least to have gone through, at the end.
ALL_BUT_A_FEW = 0.9
#: One new item is clicked each so often (s); it is ranked by then, or the benchmark fails (s).
CLICK_EVERY_S, RANKED_S = 0.5, 60.0

THROUGHPUT_COLUMNS = {"events/s": ",.0f", "CPU us per event": ".2f", "peak MB": ",.0f"}
LATENCY_COLUMNS = {"p50 ms": ",.0f", "p99 ms": ",.0f", "new items": ",.0f", "learner's cores": ".2f"}


@click.command(cls=Command, context_settings={"max_content_width": 110})
@click.option("--events", default=2_000_000, show_default=True, help="Events on the topic to catch up with.")
@click.option("--items", default=300_000, show_default=True, help="Items of the model.")
@click.option("--users", default=50_000, show_default=True, help="Users, with a heavy tail.")
@click.option(
    "--rate", default=5_000, show_default=True, help="Events per second beside which items are timed."
)
@click.option("--seconds", default=60, show_default=True, help="How long that rate is held.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the result to this file.")
@click.option("--smoke", is_flag=True, help="Little of all, to see that it works; figures mean nothing.")
def main(
    events: int, items: int, users: int, rate: int, seconds: int, json_path: Path | None, smoke: bool
) -> None:
    """Measure how fast an item learner is, and how soon readers rank an item that is new.

    First a learner (`python -m stream.items`) catches up with a topic: events/s and CPU time of its whole
    process, Kafka to Redis, between two of its own reports (once a second); "learning alone" is the same
    events, read before, through `ItemLearner.learn` in one thread of this process.

    Then a worker and a learner follow a steady rate of events, whose timestamps are when they are sent. Twice
    a second somebody clicks an item that nobody had; a ranker asks again and again for the best item of its
    category. The time from the click until it is the answer is that of "event to ranked item". Readers take
    what changed once a second, and the learner gives it once a second.

    \b
    Example: ./run bench live-items --json live-items.json
    """
    log_to_stderr()
    if smoke:
        events, items, rate, seconds = SMOKE_EVENTS, SMOKE_ITEMS, SMOKE_RATE, SMOKE_SECONDS
    if min(events, items, users, rate, seconds) < 1:
        raise SettingsError("--events, --items, --users, --rate and --seconds must be at least 1")
    report = run(make_log(events + rate * (seconds + 2), users, items=items), events, rate, seconds)
    _print(report)
    if json_path:
        report.write(json_path)


def run(log: BehaviourLog, events: int, rate: int, seconds: int) -> Report:
    """Measure with the first `events` of a log, then with the others at a rate."""
    results: dict[str, Result] = {}
    # What follows, which is sent with the time that it is then, goes on from these.
    since_ms = int(time.time() * 1000) - log.time_ms[:events].max()
    log = replace(log, time_ms=log.time_ms + since_ms)
    with stage(PARTITIONS) as here:
        publish_untrained(here.artifact_store, _vocabulary(log))
        settings = here.settings("twintide", f"{here.prefix}-events")
        topics.fill(here.kafka, settings.topic, PARTITIONS, log.select(np.arange(events)))
        click.echo(f"learning {events:,} events alone", err=True)
        results["learning alone"] = learn_alone(settings)
        with learner(here, settings) as process:
            click.echo(f"a learner that catches up with {events:,} events", err=True)
            results["whole process"] = catch_up(process, settings, events)
            click.echo(f"new items beside {rate:,} events/s for {seconds} s", err=True)
            rest = log.select(np.arange(events, len(log)))
            results["event to ranked item"] = follow(here, settings, process, rest, rate, seconds)
    about = {"events": events, "items": len(log.item.values), "rate": rate, "seconds": seconds}
    return Report({**about, "users": len(log.user.values), "partitions": PARTITIONS}, results)


def _vocabulary(log: BehaviourLog) -> Vocabulary:
    """Return the vocabulary of all items that a log may have."""
    items = [str(each) for each in log.item.values]
    categories = [FIRST_KNOWN + number % CATEGORIES for number in range(len(items))]
    return Vocabulary(items, categories, [str(each) for each in log.category.values])


def learn_alone(settings: Settings) -> Result:
    """Return how fast the topic's events, read before, are learned by one thread of this process."""
    artifact = load(settings.artifact)
    ends = end_offsets(settings.kafka, settings.topic)
    begin = {partition: Position(0, 0) for partition in ends}
    identity = topic_id(settings.kafka, settings.topic)
    source = Source(settings.kafka, settings.topic, identity, decoder_of(settings), begin)
    batches = []
    while {partition: place.offset for partition, place in source.positions.items()} != ends:
        batches += [(each.user_ids, each.events) for each in source.read(0.1) if each.events is not None]
    source.close()
    ItemLearner.start(artifact, artifact.settings.live_items).learn(*batches[0])  # has it compiled
    learner_of_all = ItemLearner.start(artifact, artifact.settings.live_items)
    started, cpu = time.monotonic(), time.thread_time()
    for user_ids, events in batches:
        learner_of_all.learn(user_ids, events)
    seconds, cpu_s = time.monotonic() - started, time.thread_time() - cpu
    count = learner_of_all.step
    return {"events_per_second": count / seconds, "cpu_us_per_event": cpu_s / count * 1e6}


class WatchedLearner(WatchedWorker):
    """An item learner whose CPU time and memory are sampled."""

    def command(self) -> list[str]:
        """Return what is run."""
        return [sys.executable, "-m", "stream.items", "--always", "--metrics-port", str(self.port)]

    def events(self) -> tuple[int, int]:
        """Return how many events it says that it learned or left out, and has not yet; take a sample."""
        self.watch.sample(self.process.pid)
        if self.process.pid is None:
            raise TwintideError(f"the item learner has ended; its log is {self.process.log}")
        found = self.metrics().items()
        done, left = (
            sum(count for name, count in found if name.startswith(f"twintide_items_{what}"))
            for what in ("events_total", "lag_events")
        )
        return int(done), int(left)


@contextmanager
def learner(here: Stage, settings: Settings) -> Iterator[WatchedLearner]:
    """Give a learner of the model, which is made to serve, not yet started; end it."""
    with redis_client(settings.redis) as client:
        ModelRegistry(client, settings.key_prefix).serve(load(settings.artifact).version, 1)
    environment = {**worker_environment(settings), "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    process = WatchedLearner("items", here.directory / "items", environment)
    try:
        yield process
    finally:
        process.kill()


def catch_up(process: WatchedLearner, settings: Settings, events: int) -> Result:
    """Start the learner, and return how fast it learned what is on the topic."""
    process.start(wait=False)
    seen: list[tuple[float, int]] = [(time.monotonic(), 0)]
    deadline = time.monotonic() + START_S + LEARNED_S
    is_over = False
    while not is_over:
        count, left = process.events()
        # A few events are neither learned nor counted; before the first fetch nobody knows how many are left.
        is_over = left == 0 and count > events * ALL_BUT_A_FEW
        if count > seen[-1][1]:
            seen.append((time.monotonic(), count))
        if time.monotonic() > deadline:
            raise TwintideError(f"{seen[-1][1]} of {events} events were learned; see {process.process.log}")
        time.sleep(POLL_S)
    # The first report is of what came before it, the last one may be of less than a second.
    whole = seen[1:-1] if len(seen) > 3 else seen
    (start, first), (end, last) = whole[0], whole[-1]
    cpu_s = process.watch.cpu_seconds(start, end)
    return {
        "events_per_second": (last - first) / (end - start),
        "cpu_us_per_event": cpu_s / (last - first) * 1e6,
        "peak_mb": process.watch.peak_mb(),
    }


def follow(
    here: Stage, settings: Settings, process: WatchedLearner, log: BehaviourLog, rate: int, seconds: int
) -> Result:
    """Return how soon new items were ranked while events came at a rate, beside a worker and the learner."""
    worker = here.worker("twintide", settings.topic)
    try:
        worker.start()
        topics.wait_for_commits(here.kafka, settings.app_id, settings.topic, lambda: None)
        sent_ms = time.time() * 1000 + np.arange(len(log)) * 1000 / rate
        traffic = SteadyTraffic(
            here.kafka, settings.topic, replace(log, time_ms=sent_ms.astype(np.int64)), rate
        )
        traffic.start()
        process.events()
        started = time.monotonic()
        times_ms = time_new_items(settings, str(log.user.values[0]), seconds)
        process.events()
        cores = process.watch.cpu_seconds(started, time.monotonic()) / (time.monotonic() - started)
        traffic.finish()
        worker.stop()
    finally:
        worker.kill()
    p50_ms, p99_ms = np.percentile(times_ms, (50, 99)).tolist()
    return {"p50_ms": p50_ms, "p99_ms": p99_ms, "new_items": len(times_ms), "learner_cores": cores}


def time_new_items(settings: Settings, user_id: str, seconds: int) -> list[float]:
    """Click new items for some seconds, and return how long each took until a ranker had it (ms)."""
    producer = Producer({**settings.kafka.librdkafka(), "partitioner": "murmur2_random", "linger.ms": 1})
    found: list[float] = []
    waiting: dict[str, float] = {}
    with redis_client(settings.redis) as client:
        recommender = Recommender(Reader(client, key_prefix=settings.key_prefix), settings.artifact)
        end = time.monotonic() + seconds
        click_at = time.monotonic()
        while time.monotonic() < end or waiting:
            now = time.monotonic()
            if click_at <= now < end:
                click_at += CLICK_EVERY_S
                name = f"new {len(found) + len(waiting)}"
                _click(producer, settings.topic, name)
                waiting[name] = now
            for name, clicked_at in [*waiting.items()]:
                if recommender.recommend(user_id, 1, category=name).item_ids == [name]:
                    found.append((time.monotonic() - clicked_at) * 1000)
                    del waiting[name]
                elif now - clicked_at > RANKED_S:
                    raise TwintideError(f"item {name!r} is not ranked {RANKED_S:g} s after its click")
            producer.poll(0)
            time.sleep(ASK_S)
    return found


def _click(producer: Producer, topic: str, name: str) -> None:
    """Publish a click on an item that is alone in its category."""
    user, now_ms = f"curious {name}", int(time.time() * 1000)
    event = {
        "event_id": name,
        "user_id": user,
        "item_id": name,
        "item_category": name,
        "behavior_type": 1,
        "time": now_ms,
    }
    producer.produce(topic, json.dumps(event), user, timestamp=now_ms)


def _print(report: Report) -> None:
    nan = float("nan")
    rows = {
        name: {
            "events/s": result["events_per_second"],
            "CPU us per event": result["cpu_us_per_event"],
            "peak MB": result.get("peak_mb", nan),
        }
        for name, result in report.results.items()
        if "events_per_second" in result
    }
    print_table("live items: events learned", rows, THROUGHPUT_COLUMNS)
    name, result = "event to ranked item", report.results["event to ranked item"]
    row = {
        "p50 ms": result["p50_ms"],
        "p99 ms": result["p99_ms"],
        "new items": result["new_items"],
        "learner's cores": result["learner_cores"],
    }
    print_table(f"at {report.settings['rate']} events/s", {name: row}, LATENCY_COLUMNS)


if __name__ == "__main__":
    main(prog_name="./run bench live-items")
