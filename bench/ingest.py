"""`./run bench ingest`: events per second until committed, the same job on every engine."""

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import click
import numpy as np
from confluent_kafka import Message

from bench.harness import topics
from bench.harness.artifact import publish_untrained
from bench.harness.behaviour import USER_EXPONENT, expected_windows, make_log
from bench.harness.contestants import Contestant, look
from bench.harness.report import Report, Result, print_table
from bench.harness.stage import Stage, stage
from bench.peers.job import COMMIT_INTERVAL_S, LIMITS, window_from_msgpack
from bench.peers.kafka_streams import STREAMS_VERSION, window_from_streams
from bench.peers.quix_environment import QUIX_VERSION
from models.command import Command, log_to_stderr
from models.errors import SettingsError, TwintideError
from models.ids.log_vocabulary import vocabulary_of_log
from models.log.behaviour_log import BehaviourLog
from models.windows.window import Window, window_from_bytes
from stream.kafka.topic_reader import read_all

PEERS = ("faust", "quix", "kafka-streams", "kafka-streams-warm")
#: How many workers there are in the group of each contestant that is Twintide, and whether they encode.
OURS = {
    "twintide": (1, True),
    "twintide-no-encode": (1, False),
    "twintide-2": (2, True),
    "twintide-2-no-encode": (2, False),
}
CONTESTANTS = (*PEERS, *OURS)
#: Events that a smoke run has, and each peer in it.
SMOKE_EVENTS, SMOKE_USERS, SMOKE_PEER_EVENTS = 20_000, 1_000, "faust=4000"
#: Workers of a group that begin further apart (s) have not shared the topic from its first event on.
APART_S = 0.5
#: What a window says of its user's past, whoever keeps it.
COLUMNS = ("times_ms", "behaviours", "item_ids", "categories", "event_hashes")

FORMATS = {
    "events": ",.0f",
    "seconds": ",.1f",
    "events/s": ",.0f",
    "CPU s per million": ",.1f",
    "peak MB": ",.0f",
    "of twintide": ".3f",
}


@dataclass(frozen=True, slots=True)
class Options:
    """What is to be run."""

    events: int
    users: int
    partitions: int
    #: Who takes part, in this order.
    contestants: tuple[str, ...]
    #: Events of the contestants that get the beginning of the log alone.
    peer_events: dict[str, int]

    def __post_init__(self) -> None:
        for name in (*self.contestants, *self.peer_events):
            if name not in CONTESTANTS:
                raise SettingsError(f"no contestant {name!r}; there are {', '.join(CONTESTANTS)}")
        if min(self.events, self.users, self.partitions, *self.peer_events.values()) < 1:
            raise SettingsError("--events, --users, --partitions and --peer-events must be at least 1")

    def events_of(self, name: str) -> int:
        """Return how many events a contestant gets."""
        return min(self.peer_events.get(name, self.events), self.events)


@click.command(cls=Command, context_settings={"max_content_width": 110})
@click.option("--events", default=1_000_000, show_default=True, help="Events on the topic.")
@click.option("--users", default=10_000, show_default=True, help="Users, with a heavy tail.")
@click.option("--partitions", default=4, show_default=True, help="Partitions of the topic.")
@click.option("--peers", default=",".join(CONTESTANTS), show_default=True, help="Who takes part, in order.")
@click.option(
    "--peer-events",
    default="faust=60000",
    show_default=True,
    help="Contestants that get only so many of the first events.",
)
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the result to this file.")
@click.option("--smoke", is_flag=True, help="20,000 events, to see that it works; figures mean nothing.")
def main(
    events: int,
    users: int,
    partitions: int,
    peers: str,
    peer_events: str,
    json_path: Path | None,
    smoke: bool,
) -> None:
    """Measure events per second until committed, on Twintide and its peers.

    A topic is filled once. Each contestant then reads it from the beginning with a group of its own, and
    keeps every user's last 110 events within 30 days, each event id once, with a durable changelog. The
    clock runs from the first event that a peer's own code gets, for Twintide from the last look at /health
    (20 a second) that found it not ready, until the committed offsets of the group are seen at the end of
    every partition (20 looks a second); process start and imports are outside. CPU seconds (user and system)
    are those of its processes within that time, peak MB the most resident memory it ever had. At the end its
    changelog must hold exactly the windows that follow from the events, else the benchmark fails.

    A slow contestant gets the beginning of the log as a topic of its own: shorter windows, an easier job.

    kafka-streams has 2 threads, a cache of 256 MB, lz4 and batches of 512 KB for its changelog, fetches of
    4 MB, 1 GB of heap and the parallel collector; it is compiled for the run, without a JDK.
    kafka-streams-warm has read the whole topic once before, in the same JVM, under another application id.
    twintide-2 is two workers of one group: the clock starts with the first that is ready, CPU seconds and
    peak MB are sums.

    \b
    Example:
      ./run bench ingest --json ingest.json
      ./run bench ingest --peers quix,twintide --peer-events quix=300000
      ./run bench ingest --peers kafka-streams,kafka-streams-warm,twintide,twintide-2
    """
    log_to_stderr()
    if smoke:
        events, users, peer_events = SMOKE_EVENTS, SMOKE_USERS, SMOKE_PEER_EVENTS
    contestants = tuple(name for name in peers.split(",") if name)
    report = run(Options(events, users, partitions, contestants, _counts(peer_events)))
    _print(report)
    if json_path:
        report.write(json_path)


def run(options: Options) -> Report:
    """Run every contestant, one after the other, and return what was measured."""
    log = make_log(options.events, options.users)
    results: dict[str, Result] = {}
    with stage(options.partitions) as here:
        publish_untrained(here.artifact_store, vocabulary_of_log(log))
        for name in options.contestants:
            part = log.select(np.arange(options.events_of(name)))
            results[name] = _measure(here, name, _topic(here, part), len(part))
            _check_windows(here, name, part)
    settings = {
        "events": options.events,
        "users": options.users,
        "partitions": options.partitions,
        "user_exponent": USER_EXPONENT,
        "commit_interval_s": COMMIT_INTERVAL_S,
        "faust-streaming": version("faust-streaming"),
        "quixstreams": QUIX_VERSION,
        "kafka-streams": STREAMS_VERSION,
    }
    report = Report(settings, results)
    for ours in OURS:
        report.compare(ours, PEERS, "events_per_second")
    for two, one in (("twintide-2", "twintide"), ("twintide-2-no-encode", "twintide-no-encode")):
        report.compare(two, (one,), "events_per_second")
    return report


def _topic(here: Stage, log: BehaviourLog) -> str:
    """Return the topic with these rows, filled by the first who needs it."""
    name = f"{here.prefix}-events-{len(log)}"
    if name not in topics.names(here.kafka):
        topics.fill(here.kafka, name, here.partitions, log)
    return name


def _measure(here: Stage, name: str, topic: str, events: int) -> Result:
    """Run one contestant through the topic."""
    click.echo(f"{name}: {events:,} events", err=True)
    processes = _processes(here, name, topic)
    try:
        with ThreadPoolExecutor(len(processes)) as pool:
            list(pool.map(lambda process: process.start(), processes))
        end = topics.wait_until_committed(
            here.kafka, here.group(name), topic, lambda: list(map(look, processes))
        )
    except BaseException:
        for process in processes:
            process.kill()
        raise
    for process in processes:
        process.stop()
    start = min(process.began_at for process in processes)
    if (apart := max(process.began_at for process in processes) - start) > APART_S:
        click.echo(
            f"{name}: its workers began {apart:.1f} s apart, so the first did more than its share: "
            "see that Kafka's group.initial.rebalance.delay.ms is 3000",
            err=True,
        )
    return {
        "events": events,
        "seconds": end - start,
        "events_per_second": events / (end - start),
        "cpu_seconds": sum(process.watch.cpu_seconds(start, end) for process in processes),
        "peak_mb": sum(process.watch.peak_mb() for process in processes),
    }


def _processes(here: Stage, name: str, topic: str) -> list[Contestant]:
    """Return what a contestant consists of."""
    if name not in OURS:
        return [here.peer(name, topic)]
    workers, encode = OURS[name]
    return [here.worker(name, topic, encode, number) for number in range(1, workers + 1)]


def _check_windows(here: Stage, name: str, log: BehaviourLog) -> None:
    """Compare the contestant's changelog with what follows from the log; TwintideError where they differ."""
    stored = {key.decode(): value for key, value in _changelog(here, name)}
    read = _reader(name)
    for user_id, window in expected_windows(log, LIMITS).items():
        value = stored.pop(user_id, None)
        found = read(value) if value else Window()
        for column in COLUMNS:
            if getattr(found, column) != getattr(window, column):
                raise TwintideError(
                    f"{name}: the window of user {user_id} is wrong: {len(found)} events stored, "
                    f"{len(window)} expected; {column} differs"
                )
    if stored:
        raise TwintideError(f"{name}: {len(stored)} windows of nobody, {next(iter(stored))!r} first")


def _reader(name: str) -> Callable[[bytes], Window]:
    """Return how the contestant's windows are read."""
    if name in OURS:
        return window_from_bytes
    return window_from_streams if name.startswith("kafka-streams") else window_from_msgpack


def _changelog(here: Stage, name: str) -> Iterator[tuple[bytes, bytes | None]]:
    """Yield user id and window of every changelog record, in order."""
    is_quix = name == "quix"
    group = here.group(name)
    for topic in topics.names(here.kafka):
        if topic.startswith(f"changelog__{group}--" if is_quix else f"{group}-windows-changelog"):
            for message in read_all(here.kafka, topic):
                key = _user_of_quix_key(message) if is_quix else message.key()
                yield key, message.value()


def _user_of_quix_key(message: Message) -> bytes:
    """Return the message key that a state belongs to; Quix Streams appends the name of the state to it."""
    key: bytes = message.key()
    return key.removesuffix(b'|"window"')


def _counts(text: str) -> dict[str, int]:
    """Return the counts of `name=count,name=count`."""
    try:
        return {name: int(count) for name, count in (pair.split("=") for pair in text.split(",") if pair)}
    except ValueError as error:
        raise SettingsError(f"--peer-events is {text!r}; write faust=60000,quix=300000") from error


def _print(report: Report) -> None:
    ours = report.results.get("twintide", {}).get("events_per_second", math.nan)
    rows = {
        name: {
            "events": result["events"],
            "seconds": result["seconds"],
            "events/s": result["events_per_second"],
            "CPU s per million": result["cpu_seconds"] / result["events"] * 1e6,
            "peak MB": result["peak_mb"],
            "of twintide": result["events_per_second"] / ours,
        }
        for name, result in report.results.items()
    }
    print_table("ingest: events until committed", rows, FORMATS)
    for name, ratio in report.ratios.items():
        click.echo(f"{name} {ratio:.3g}x")


if __name__ == "__main__":
    main(prog_name="./run bench ingest")
