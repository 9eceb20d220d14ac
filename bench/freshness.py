"""`./run bench freshness`: from sending an event until another process reads a vector that knows it."""

import time
from pathlib import Path

import click
import msgspec
import numpy as np

from bench.harness.artifact import publish_untrained
from bench.harness.behaviour import distinct, make_log
from bench.harness.contestants import WatchedWorker
from bench.harness.probe import probing
from bench.harness.report import Report, Result, print_table
from bench.harness.slow_events import Passed, by_stage, stages_of
from bench.harness.stage import Stage, stage
from bench.harness.traffic import WARM_UP_EVENTS, send_steadily
from models.command import Command, log_to_stderr
from models.errors import SettingsError, TwintideError
from models.ids.log_vocabulary import vocabulary_of_log
from models.log.behaviour_log import BehaviourLog
from replay.source import MessageSource
from stream.kafka.topics import ensure_topic
from stream.tracing import read_trace

#: Events per second, the last beyond what two cores can do.
RATES = "500,2000,5000,10000,60000"
SMOKE_RATES, SMOKE_SECONDS = "200", 3
PARTITIONS = 4
#: Events timed per second, about.
TIMED_PER_SECOND = 100

#: Files of the stage's directory: what the worker traces, and the events that the probe timed.
TRACE, TIMED = "trace.jsonl", "timed.json"
TRACE_COLUMNS = {"median_ms": ",.1f", "slow_ms": ",.1f", "share": ".0%"}
REPORT_COLUMNS = {
    "p50 ms": ",.0f",
    "p99 ms": ",.0f",
    "sent": ",.0f",
    "readable": ",.0f",
    "sent/s": ",.0f",
    "worker CPU": ".0%",
}


@click.command(cls=Command, context_settings={"max_content_width": 110})
@click.option("--rates", default=RATES, show_default=True, help="Events per second, in turn.")
@click.option("--seconds", default=15, show_default=True, help="How long each rate is held.")
@click.option("--users", default=10_000, show_default=True, help="Users, with a heavy tail.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the result to this file.")
@click.option(
    "--smoke", is_flag=True, help="200 events/s for 3 s, to see that it works; figures mean nothing."
)
@click.option(
    "--trace", "is_traced", is_flag=True, help="Say in which stage the slow hundredth was for how long."
)
def main(rates: str, seconds: int, users: int, json_path: Path | None, smoke: bool, is_traced: bool) -> None:
    """Measure how fresh vectors are at steady rates, from outside the worker.

    A producer sends events to Kafka at each rate, with the time of sending in a header; one worker follows.
    A process of its own, which shares nothing with the worker, reads the topic and asks Redis again and again
    (about every 5 ms) for the users of about a hundred events a second, until their `seq` has reached the
    event; the time since the event was sent is its freshness. After each rate it waits until all events are
    readable; where one is lost the benchmark fails. Kafka, Redis, producer, worker and probe share the
    machine. The highest rate is meant to be beyond saturation: freshness grows, and nothing is lost.

    \b
    Example: ./run bench freshness --json freshness.json
    """
    log_to_stderr()
    report = run(
        _numbers(SMOKE_RATES if smoke else rates), SMOKE_SECONDS if smoke else seconds, users, is_traced
    )
    _print(report)
    if json_path:
        report.write(json_path)


def run(rates: list[int], seconds: int, users: int, is_traced: bool = False) -> Report:
    """Hold each rate for this many seconds, and return what the probe found.

    `is_traced` prints for each rate in which stage of the worker events were for how long.
    """
    if min(*rates, seconds, users) < 1:
        raise SettingsError("--rates, --seconds and --users must be at least 1")
    log = distinct(make_log(WARM_UP_EVENTS + 2 * sum(rates) * seconds, users))
    results: dict[str, Result] = {}
    with stage(PARTITIONS) as here:
        publish_untrained(here.artifact_store, vocabulary_of_log(log))
        topic = f"{here.prefix}-events"
        ensure_topic(here.kafka, topic, PARTITIONS)
        worker = here.worker("twintide", topic)
        if is_traced:
            worker.tell({"TWINTIDE_TRACE": str(here.directory / TRACE)})
        try:
            worker.start()
            first = WARM_UP_EVENTS
            hold(here, worker, log.select(np.arange(first)), rate=WARM_UP_EVENTS // 4)
            for rate in rates:
                part = log.select(np.arange(first, first + rate * seconds))
                first += len(part)
                click.echo(f"{rate:,} events/s for {seconds} s", err=True)
                results[str(rate)] = hold(here, worker, part, rate)
                if is_traced:
                    print_stages(here.directory, rate)
            worker.stop()
        finally:
            worker.kill()
    settings = {"seconds": seconds, "users": users, "partitions": PARTITIONS}
    return Report(settings, results)


def hold(here: Stage, worker: WatchedWorker, log: BehaviourLog, rate: int) -> Result:
    """Send events at a steady rate and return how fresh vectors were; TwintideError where one was lost."""
    topic, prefix = f"{here.prefix}-events", f"{here.prefix}-twintide:"
    sample_every = max(rate // TIMED_PER_SECOND, 1)
    with probing(topic, prefix, sample_every, here.directory / TIMED) as probe:
        worker.watch.sample(worker.process.pid)
        started = time.monotonic()
        messages = MessageSource(log).messages(slice(0, len(log)))
        send_steadily(here.kafka, topic, messages.__getitem__, len(messages), rate)
        ended = time.monotonic()
        worker.watch.sample(worker.process.pid)
        result: Result = probe.result(len(log))
    if result["readable"] != result["sent"]:
        raise TwintideError(
            f"at {rate} events/s {result['sent']:.0f} events were sent and {result['readable']:.0f} became "
            f"readable; the worker's log is {worker.process.log}"
        )
    cores_used = worker.watch.cpu_seconds(started, time.monotonic()) / (ended - started)
    return {**result, "sent_per_second": len(log) / (ended - started), "worker_cores": cores_used}


def print_stages(directory: Path, rate: int) -> None:
    """Print in which stage the events that were timed last were for how long."""
    events = msgspec.json.decode((directory / TIMED).read_bytes(), type=list[Passed])
    stages = stages_of(events, *read_trace(directory / TRACE))
    print_table(f"{rate:,} events/s: {len(stages):,} events by stage", by_stage(stages), TRACE_COLUMNS)


def _numbers(text: str) -> list[int]:
    try:
        return [int(each) for each in text.split(",")]
    except ValueError as error:
        raise SettingsError(f"--rates is {text!r}; write 500,2000") from error


def _print(report: Report) -> None:
    rows = {
        f"{int(rate):,} events/s": {
            "p50 ms": result["p50_ms"],
            "p99 ms": result["p99_ms"],
            "sent": result["sent"],
            "readable": result["readable"],
            "sent/s": result["sent_per_second"],
            "worker CPU": result["worker_cores"],
        }
        for rate, result in report.results.items()
    }
    print_table("freshness: event sent to vector readable", rows, REPORT_COLUMNS)


if __name__ == "__main__":
    main(prog_name="./run bench freshness")
