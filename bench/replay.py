"""`./run bench replay`: events a second into Kafka, beside a bare producer loop, and how a pace is kept."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median

import click
from confluent_kafka import Producer

from bench.harness.behaviour import FIRST_MS, make_log
from bench.harness.report import Report, Result, print_table
from bench.harness.stage import Stage, stage
from models.command import Command, log_to_stderr
from models.errors import SettingsError, TwintideError
from models.log.behaviour_log import BehaviourLog
from replay.acknowledged import AcknowledgedFile, Checkpoints
from replay.control import Stop
from replay.ordered_log import LogInMemory
from replay.pace import Pace
from replay.publisher import ANY_PARTITION, ROOM_WAIT_S, PublisherSettings, ReplayProducer
from replay.report import QUANTILES
from replay.run import Replay, rehearse
from replay.schedule import Schedule, ScheduleSettings
from replay.source import MessageSource, ReplayMessage
from stream.kafka.topics import ensure_topic

PARTITIONS = 4
USERS = 10_000
SPEED = 100
#: Events a second that are due at SPEED; the real Tianchi log has 460 at 100x.
PACED_RATE = 1_000
SMOKE_EVENTS, SMOKE_MINUTES = 20_000, 0.05
#: Gives a producer all records.
HandOver = Callable[[Producer, str, list[ReplayMessage]], None]
HEADERS = [("sent_at", b"1418860801000")]

COLUMNS = {"events": ",.0f", "events/s": ",.0f", "CPU s": ",.1f", "pace": ".2%", "p99 ms late": ",.1f"}


@click.command(cls=Command, context_settings={"max_content_width": 110})
@click.option("--events", default=1_000_000, show_default=True, help="Events of each run at full speed.")
@click.option("--rounds", default=3, show_default=True, help="Runs of each, in turn; the median counts.")
@click.option("--minutes", default=10.0, show_default=True, help="How long the run at 100x takes.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the result to this file.")
@click.option("--smoke", is_flag=True, help="20,000 events, 3 s, to see that it works; figures mean nothing.")
def main(events: int, rounds: int, minutes: float, json_path: Path | None, smoke: bool) -> None:
    """Measure a replay at full speed and at 100x.

    At full speed it stands beside two bare loops that hand records made beforehand to a producer with the
    same settings: `producer` as confluent-kafka's documentation does, `producer-by-place` as fast as it goes.
    The replay makes its records as it goes, tells the digest, and writes down what has been acknowledged. All
    end with the last acknowledgement.

    \b
    Example: ./run bench replay --json replay.json
    """
    log_to_stderr()
    report = run(SMOKE_EVENTS, 1, SMOKE_MINUTES) if smoke else run(events, rounds, minutes)
    _print(report)
    if json_path:
        report.write(json_path)


def run(events: int, rounds: int, minutes: float) -> Report:
    """Replay a log in every way, and return what was measured."""
    if events < 1 or rounds < 1 or minutes <= 0:
        raise SettingsError("--events, --rounds and --minutes must be above 0")
    log = make_log(events, USERS).in_time_order()
    runs: dict[str, list[Result]] = {"producer": [], "replay": [], "producer-by-place": []}
    with stage(PARTITIONS) as here:
        messages = MessageSource(log).messages(slice(None))
        for number in range(rounds):
            for name, of_name in runs.items():
                topic = f"{here.prefix}-{name}-{number}"
                ensure_topic(here.kafka, topic, PARTITIONS)
                bare = BARE.get(name)
                measured = _bare(here, topic, messages, bare) if bare else _replay(here, topic, log)
                click.echo(f"{name}: {measured['events_per_second']:,.0f} events/s", err=True)
                of_name.append(measured)
        results = {name: _median(each) for name, each in runs.items()}
        results[f"{SPEED}x"] = _paced(here, minutes)
    settings = {"events": events, "rounds": rounds, "minutes": minutes, "partitions": PARTITIONS}
    report = Report(settings, results)
    report.compare("replay", tuple(BARE), "events_per_second")
    return report


def _median(results: list[Result]) -> Result:
    middle = median(result["events_per_second"] for result in results)
    return min(results, key=lambda result: abs(result["events_per_second"] - middle))


def _bare(here: Stage, topic: str, messages: list[ReplayMessage], hand_over: HandOver) -> Result:
    """Hand over records that are there already, as fast as it goes."""
    settings = PublisherSettings(topic=topic).librdkafka()
    producer = Producer({**here.kafka.librdkafka(), **settings})
    producer.list_topics(topic, timeout=30)
    start, cpu_start = time.monotonic(), time.process_time()
    hand_over(producer, topic, messages)
    producer.flush()
    return _result(len(messages), time.monotonic() - start, time.process_time() - cpu_start)


def _by_name(producer: Producer, topic: str, messages: list[ReplayMessage]) -> None:
    """Hand over records as confluent-kafka's documentation does."""
    for key, value, time_ms in messages:
        while True:
            try:
                producer.produce(topic, value=value, key=key, timestamp=time_ms, headers=HEADERS)
                break
            except BufferError:
                producer.poll(ROOM_WAIT_S)


def _by_place(producer: Producer, topic: str, messages: list[ReplayMessage]) -> None:
    """Hand over records as the replay does: arguments by their places take a third less time."""
    produce = producer.produce
    for key, value, time_ms in messages:
        while True:
            try:
                produce(topic, value, key, ANY_PARTITION, None, None, time_ms, HEADERS)
                break
            except BufferError:
                producer.poll(ROOM_WAIT_S)


#: The bare loops, by the names of their results.
BARE: dict[str, HandOver] = {"producer": _by_name, "producer-by-place": _by_place}


def _replay(here: Stage, topic: str, log: BehaviourLog) -> Result:
    """Replay the log as `python -m replay --speed max` does; TwintideError where two digests differ."""
    schedule = Schedule(LogInMemory(log), ScheduleSettings(Pace.of("max")))
    replay = _prepared(here, topic, schedule)
    start, cpu_start = time.monotonic(), time.process_time()
    report = replay.run()
    result = _result(report.acknowledged, time.monotonic() - start, time.process_time() - cpu_start)
    if report.digest != rehearse(schedule).digest:
        raise TwintideError("the digest of what was published is not that of a dry run")
    return result


def _paced(here: Stage, minutes: float) -> Result:
    """Replay at SPEED a log in which PACED_RATE events a second are due."""
    count = max(2, round(minutes * 60 * PACED_RATE))
    made = make_log(count, USERS).in_time_order()
    span_ms = int(made.time_ms[-1]) - FIRST_MS + 1
    time_ms = FIRST_MS + (made.time_ms - FIRST_MS) * round(minutes * 60_000 * SPEED) // span_ms
    log = replace(made, time_ms=time_ms // 1_000 * 1_000)
    topic = f"{here.prefix}-paced"
    ensure_topic(here.kafka, topic, PARTITIONS)
    schedule = Schedule(LogInMemory(log), ScheduleSettings(Pace.of(f"{SPEED}x")))
    report = _prepared(here, topic, schedule).run()
    return {
        "events": report.acknowledged,
        "seconds": report.seconds,
        "pace": report.pace or 0.0,
        **{f"late_{name}_ms": report.lateness.quantile_s(share) * 1_000 for name, share in QUANTILES.items()},
    }


def _prepared(here: Stage, topic: str, schedule: Schedule) -> Replay:
    publisher = ReplayProducer(here.kafka, PublisherSettings(topic=topic))
    file = AcknowledgedFile(topic, here.directory)
    return Replay(schedule, publisher, Stop(), checkpoints=Checkpoints(file, publisher))


def _result(events: int, seconds: float, cpu_seconds: float) -> Result:
    return {
        "events": events,
        "seconds": seconds,
        "events_per_second": events / seconds,
        "cpu_seconds": cpu_seconds,
    }


def _print(report: Report) -> None:
    rows = {
        name: {
            "events": result["events"],
            "events/s": result["events"] / result["seconds"],
            "CPU s": result.get("cpu_seconds", float("nan")),
            "pace": result.get("pace", float("nan")),
            "p99 ms late": result.get("late_p99_ms", float("nan")),
        }
        for name, result in report.results.items()
    }
    print_table("replay: events into Kafka", rows, COLUMNS)
    for ratio_name, ratio in report.ratios.items():
        click.echo(f"{ratio_name} {ratio:.2f}x")


if __name__ == "__main__":
    main(prog_name="./run bench replay")
