"""`python -m replay`: publish a behaviour log to Kafka in event time."""

import json
import logging
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

import click

from models.command import EVENT_TIME, log_to_stderr
from models.log.format import log_format_option
from replay.acknowledged import Acknowledged, AcknowledgedFile, Checkpoints
from replay.command_line import Options
from replay.control import Pause, Stop
from replay.encoding import ENCODINGS, make_encode
from replay.open_log import opened_log, version_of
from replay.options import GroupedCommand, group, option
from replay.publisher import ReplayProducer
from replay.report import Report
from replay.run import Replay, rehearse
from replay.schedule import FOREVER, Schedule, Spread
from stream.kafka.connection import KafkaConnection
from stream.kafka.topics import ensure_topic, partition_counts
from stream.registry.connection import RegistryConnection

logger = logging.getLogger("replay")

#: Titles of groups of options.
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
    option(
        "--encode", type=click.Choice(ENCODINGS), default="json", show_default=True,
        help="How values are encoded; all but json by a schema registry, which gets the schema.",
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

    Kafka is where KAFKA_BOOTSTRAP_SERVERS says (localhost:9092), a schema registry where SCHEMA_REGISTRY_URL
    says. TIME is YYYY-MM-DD, or with HH, HH:MM or
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


def _published(options: Options) -> int:
    """Replay, print the report, and return the exit status."""
    kafka = KafkaConnection.from_environment(os.environ)
    partition_counts(kafka)  # tells whether Kafka is there, before a large file is read
    version = version_of(options.paths)
    encode = make_encode(
        options.encoding, RegistryConnection.from_environment(os.environ), options.publisher.topic
    )
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
        replay = Replay(schedule, publisher, stop, pause, Checkpoints(file, publisher, start), encode)
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


if __name__ == "__main__":
    # So that a signal before the first event leaves no temporary file.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    main()
