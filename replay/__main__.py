"""`python -m replay`: publish a behaviour log to Kafka in event time."""

import json
import logging
import os
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import click

from models.command import EVENT_TIME, log_to_stderr
from models.errors import SettingsError
from models.log.format import LogFormat, log_format_option, read_log_format
from replay.acknowledged import Acknowledged, AcknowledgedFile, Checkpoints
from replay.amounts import parse_share, parse_share_and_time
from replay.control import Pause, Stop
from replay.disturbances import Disturbances
from replay.open_log import opened_log, version_of
from replay.options import GroupedCommand, group, option
from replay.ordered_log import OrderedLog
from replay.pace import Pace
from replay.publisher import PublisherSettings, ReplayProducer
from replay.report import Report
from replay.run import Replay, rehearse
from replay.schedule import FOREVER, Schedule, ScheduleSettings, Spread
from replay.selection import Selection
from stream.kafka.connection import KafkaConnection
from stream.kafka.topics import ensure_topic, partition_counts, topic_id

logger = logging.getLogger("replay")

#: Defaults of --disorder and --duplicates, and of --late (s).
WITHIN_S, LATE_S = 600.0, 86_400.0

LOG, PACE, DISTURBANCES, KAFKA, RUN = "The log", "Pace", "Disturbances", "Kafka", "This run"


class _RebaseTime(click.ParamType):
    name = "now|TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime | str:
        return "now" if value == "now" else EVENT_TIME.convert(value, param, ctx)


class _Laps(click.ParamType):
    name = "times"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        return FOREVER if value == "forever" else click.IntRange(min=1).convert(value, param, ctx)


@click.command("replay", cls=GroupedCommand, context_settings={"max_content_width": 110})
@group(
    LOG,
    option(
        "--data-path", multiple=True, default=("data/behaviour.csv",), show_default=True, metavar="PATH",
        help="CSV or Parquet, a file, folder, glob or URL; give it again for more.",
    ),
    option("--from", "first", type=EVENT_TIME, metavar="TIME", help="Events from this time (UTC) on."),
    option("--to", "end", type=EVENT_TIME, metavar="TIME", help="Events before this time (UTC)."),
    option(
        "--users", metavar="ID,...|@FILE|N%",
        help="Events of these users alone: ids, a file with an id a line, or a share of all users.",
    ),
    option(
        "--limit", type=click.IntRange(min=1), metavar="ROWS",
        help="At most this many rows, the first in time order.",
    ),
)  # fmt: skip
@log_format_option
@group(
    PACE,
    option(
        "--speed", default="100x", show_default=True, metavar="100x|max",
        help="How many times faster than the events happened, or `max`: as fast as Kafka takes them.",
    ),
    option("--ramp", metavar="1x:100x:10m", help="Instead: from one speed to another in this time."),
    option(
        "--rate-limit", type=click.FloatRange(min=0, min_open=True), metavar="N",
        help="At most this many events a second.",
    ),
    option(
        "--spread", type=click.Choice([each.value for each in Spread]), default="even", show_default=True,
        help="How rows of one time (an hour, where the log knows no better) are sent over it.",
    ),
    option(
        "--loop", "laps", type=_Laps(), is_flag=False, flag_value="forever", default="1", metavar="[TIMES]",
        help="Send the log again and again, as new and later events; without a number until it is stopped.",
    ),
    option(
        "--rebase-time", type=_RebaseTime(), metavar="now|TIME",
        help="Move all times by the same, so that events happen now, and none ahead of the clock.",
    ),
)  # fmt: skip
@group(
    DISTURBANCES,
    option("--disorder", metavar="SHARE[:TIME]", help="Rows sent later, by up to a time (10m)."),
    option("--late", metavar="SHARE[:TIME]", help="Rows sent later, by a time (1d)."),
    option("--duplicates", metavar="SHARE[:TIME]", help="Rows sent twice, within a time (10m)."),
    option("--malformed", metavar="SHARE", help="Rows after which a record comes that is none."),
    option("--hot-user", metavar="SHARE", help="Rows that become one user's, `hot-user`."),
    option(
        "--seed",
        type=click.IntRange(0, 2**63),
        default=1,
        show_default=True,
        help="Decides what chance does.",
    ),
)  # fmt: skip
@group(
    KAFKA,
    option("--topic", default="user-behavior", show_default=True, help="Made if it does not exist."),
    option(
        "--partitions", type=click.IntRange(min=1), default=4, show_default=True, metavar="N",
        help="Partitions of the topic, where it must be made.",
    ),
)  # fmt: skip
@group(
    RUN,
    option("--resume", is_flag=True, help="Go on behind what Kafka acknowledged of the same command before."),
    option("--dry-run", is_flag=True, help="Send nothing; tell what would be sent, and its digest."),
)
@click.pass_context
def main(context: click.Context, /, **given: Any) -> None:
    """Publish a behaviour log to Kafka in event time, faster than it happened.

    Kafka is where KAFKA_BOOTSTRAP_SERVERS says (localhost:9092). TIME is YYYY-MM-DD, or with HH, HH:MM or
    HH:MM:SS; SHARE is 5% or 0.05, a time 30s, 10m, 2h or 1d. SIGUSR1 pauses, SIGUSR2 resumes; the first
    SIGINT or SIGTERM ends it in good order. The report is JSON on stdout. Exit status: 1 where an event
    did not arrive, or the pace was missed by more than 1 %. For example:

    \b
        python -m replay --speed 100x
        python -m replay --from "2014-12-12 00" --to 2014-12-13 --speed max
        python -m replay --ramp 1x:100x:10m --loop --duplicates 1% --disorder 5%:10m
    """
    log_to_stderr()
    is_speed_given = context.get_parameter_source("speed") is click.core.ParameterSource.COMMANDLINE
    options = Options.of(given, is_speed_given)
    if options.is_dry_run:
        with opened_log(options.paths, options.log_format, options.selection) as log:
            schedule = options.schedule(log)
            click.echo(_text(options, schedule, rehearse(schedule).planned()))
        return
    context.exit(_published(options))


@dataclass(frozen=True, slots=True)
class Options:
    """What a command line asks for."""

    paths: tuple[str, ...]
    log_format: LogFormat
    selection: Selection
    settings: ScheduleSettings
    publisher: PublisherSettings
    partitions: int
    is_rebased_now: bool
    is_resuming: bool
    is_dry_run: bool

    @classmethod
    def of(cls, given: Mapping[str, Any], is_speed_given: bool) -> "Options":
        """Return the options as they were given; SettingsError where they make no sense together."""
        rebase = given["rebase_time"]
        _refuse(is_speed_given and given["ramp"], "--speed", "--ramp", "the ramp begins with a speed")
        _refuse(given["dry_run"] and given["resume"], "--dry-run", "--resume", "the one sends nothing")
        _refuse(given["dry_run"] and given["laps"] == FOREVER, "--dry-run", "--loop", "give --loop a number")
        return cls(
            paths=given["data_path"],
            log_format=read_log_format(given["log_format"]),
            selection=Selection.of(given["first"], given["end"], given["users"], given["limit"]),
            settings=ScheduleSettings(
                pace=Pace.of(given["speed"], given["ramp"], given["rate_limit"]),
                spread=Spread(given["spread"]),
                disturbances=_disturbances(given),
                laps=given["laps"],
                seed=given["seed"],
                rebase_ms=None if rebase is None else _epoch_ms(rebase),
            ),
            publisher=PublisherSettings(topic=given["topic"]),
            partitions=given["partitions"],
            is_rebased_now=rebase == "now",
            is_resuming=given["resume"],
            is_dry_run=given["dry_run"],
        )

    def schedule(self, log: OrderedLog, rebase_ms: int | None = None) -> Schedule:
        """Return the schedule of a log that was read just now, or began at a time (epoch ms)."""
        if self.is_rebased_now:
            rebase_ms = _epoch_ms("now") if rebase_ms is None else rebase_ms
            return Schedule(log, replace(self.settings, rebase_ms=rebase_ms))
        return Schedule(log, self.settings)

    def identity(self, kafka: KafkaConnection) -> object:
        """Return what two replays have in common of which one may go on where the other was cut off.

        The pace may differ, but where times depend on it.
        """
        settings = replace(self.settings, rebase_ms=None) if self.is_rebased_now else self.settings
        if self.settings.rebase_ms is None:
            settings = replace(settings, pace=Pace())
        topic = self.publisher.topic
        place = (kafka.bootstrap_servers, topic, topic_id(kafka, topic))
        return (self.log_format, self.selection, settings, place)


def _published(options: Options) -> int:
    """Replay, print the report, and return the exit status."""
    kafka = KafkaConnection.from_environment(os.environ)
    partition_counts(kafka)  # tells whether Kafka is there, before a large file is read
    version = version_of(options.paths)
    ensure_topic(kafka, options.publisher.topic, options.partitions)
    file = AcknowledgedFile((version, options.identity(kafka)))
    start = _start(file) if options.is_resuming else Acknowledged()
    with (
        Pause() as pause,
        opened_log(options.paths, options.log_format, options.selection) as log,
        Stop() as stop,
    ):
        schedule = options.schedule(log, start.rebase_ms)
        publisher = ReplayProducer(kafka, options.publisher, stop.is_stopping)
        start = replace(start, rebase_ms=schedule.settings.rebase_ms)
        replay = Replay(schedule, publisher, stop, pause, Checkpoints(file, publisher, start))
        try:
            report = replay.run(start.records)
        finally:
            click.echo(_text(options, schedule, replay.report.planned() | replay.report.measured()))
    return _status(report, stop, options)


def _start(file: AcknowledgedFile) -> Acknowledged:
    start = file.read()
    if start is None:
        logger.warning("no replay of this log with these options was cut off: starting at its first row")
        return Acknowledged()
    logger.info("resuming behind %d records that were acknowledged", start.records)
    return start


def _status(report: Report, stop: Stop, options: Options) -> int:
    if stop.is_stopping():
        logger.warning("stopped by a signal after %d records", report.records)
        return 128 + stop.signal_number
    if report.has_missed_pace:
        logger.error(
            "%.1f %% of the pace of %s was kept: %.1f s instead of %.1f s; ask for less, or see what is slow",
            *(100 * (report.pace or 0), options.settings.pace, report.taken_s, report.asked_s),
        )
        return 1
    return 0


def _text(options: Options, schedule: Schedule, found: Mapping[str, Any]) -> str:
    """Return the report as JSON."""
    about = {
        "log": schedule.log.name,
        "topic": options.publisher.topic,
        "asked": str(options.settings.pace),
        "seed": options.settings.seed,
        "moved_by_ms": schedule.shift_ms,
    }
    return json.dumps(about | dict(found), indent=2)


def _disturbances(given: Mapping[str, Any]) -> Disturbances:
    def share(name: str) -> float:
        return parse_share(f"--{name}", given[name.replace("-", "_")] or "0")

    def share_and_time(name: str, default_s: float) -> tuple[float, float]:
        return parse_share_and_time(f"--{name}", given[name] or "0", default_s)

    return Disturbances(
        *share_and_time("disorder", WITHIN_S),
        *share_and_time("late", LATE_S),
        *share_and_time("duplicates", WITHIN_S),
        malformed=share("malformed"),
        hot_user=share("hot-user"),
    )


def _refuse(is_so: object, one: str, other: str, why: str) -> None:
    if is_so:
        raise SettingsError(f"{one} and {other} do not go together: {why}")


def _epoch_ms(moment: datetime | str) -> int:
    """Return a time (UTC), or `now`, in ms since 1970."""
    if isinstance(moment, str):
        return time.time_ns() // 1_000_000
    return round(moment.replace(tzinfo=UTC).timestamp() * 1_000)


if __name__ == "__main__":
    # So that a signal before the first event leaves no temporary file.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    main()
