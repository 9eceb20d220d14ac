"""`python -m replay`: publish a behaviour log to Kafka in event time."""

import logging
import math
import os
from datetime import datetime

import click

from models.command import EVENT_TIME, Command, log_to_stderr
from models.log.behaviour_log import read_behaviour_log
from models.log.format import log_format_option, read_log_format
from replay.publisher import PublisherSettings, ReplayProducer
from replay.run import Stop, replay
from replay.schedule import parse_speed
from replay.source import choose_rows
from stream.kafka.connection import KafkaConnection
from stream.kafka.topics import ensure_topic, partition_counts

logger = logging.getLogger("replay")

#: Below this share of the speed asked for, the replay has not kept up.
KEPT_UP = 0.98


@click.command("replay", cls=Command)
@click.option(
    "--data-path", multiple=True, default=("data/behaviour.csv",), show_default=True, metavar="PATH",
    help="The behaviour log to publish: CSV or Parquet, a file, folder, glob or URL; give it again for more.",
)  # fmt: skip
@log_format_option
@click.option("--topic", default="user-behavior", show_default=True, help="Made if it does not exist.")
@click.option(
    "--partitions", type=click.IntRange(min=1), default=4, show_default=True,
    help="Partitions of the topic, where it must be made.",
)  # fmt: skip
@click.option(
    "--speed", default="100x", show_default=True,
    help="How many times faster than the events happened, or `max`: as fast as Kafka takes them.",
)  # fmt: skip
@click.option(
    "--from", "first", type=EVENT_TIME, metavar="TIME", help="Publish events from this time (UTC) on."
)
@click.option("--until", type=EVENT_TIME, metavar="TIME", help="Publish events before this time (UTC).")
@click.option("--limit", type=click.IntRange(min=1), help="Publish at most this many events.")
@click.pass_context
def main(
    context: click.Context,
    data_path: tuple[str, ...],
    log_format: str,
    topic: str,
    partitions: int,
    speed: str,
    first: datetime | None,
    until: datetime | None,
    limit: int | None,
) -> None:
    """Publish a behaviour log to Kafka in event time, faster than it happened.

    Kafka is where KAFKA_BOOTSTRAP_SERVERS says (localhost:9092). Rows of one hour or second, where the file
    knows no better, are sent evenly over it. TIME is YYYY-MM-DD, or with HH, HH:MM or HH:MM:SS. For example:

    \b
        python -m replay --speed 100x
        python -m replay --data-path data/behaviour.csv --from "2014-12-12 00" --speed max
    """
    log_to_stderr()
    log_columns = read_log_format(log_format)
    factor, settings = parse_speed(speed), PublisherSettings(topic=topic)
    kafka = KafkaConnection.from_environment(os.environ)
    partition_counts(kafka)  # tells whether Kafka is there, before a large file is read
    log = choose_rows(read_behaviour_log(data_path, log_columns), first, until, limit)
    ensure_topic(kafka, topic, partitions)
    with Stop() as stop:
        published = replay(log, factor, ReplayProducer(kafka, settings, stop.is_stopping), stop)
    click.echo(published)
    if stop.is_stopping():
        logger.warning("stopped by a signal after %d of %d events", published.events, len(log))
        context.exit(128 + stop.signal_number)
    if len(log) > 1 and published.speed < KEPT_UP * factor < math.inf:
        logger.warning("could not keep up with --speed %s", speed)


if __name__ == "__main__":
    main()
