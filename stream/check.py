"""`python -m stream.check`: what a worker would make of a topic's events, or of a file's."""

import dataclasses
import logging
import os
from collections import Counter
from datetime import UTC, datetime

import click
import numpy as np

from models.command import log_to_stderr
from models.errors import TwintideError
from models.events import Behaviour
from models.log.behaviour_log import read_behaviour_log
from models.log.content import is_json
from models.log.files import find_files
from models.log.format import LogFormat, read_log_format
from stream.checking.findings import examine
from stream.checking.given import given_by
from stream.checking.report import lines_of
from stream.checking.sample import Sample, sample_of_file, sample_of_topic
from stream.command import ServerCommand
from stream.events.decoder import decoder_of_parts, each_path_of
from stream.settings import Settings

#: Of a log's rows so many may be bad and yet be counted.
ANY_SHARE = 0.999999


@click.command(cls=ServerCommand)
@click.option("--topic", help="The topic; TWINTIDE_TOPIC, or user-behavior, where nothing is said.")
@click.option(
    "--data-path",
    metavar="PATH",
    help="A file instead of a topic: a JSON object in each line, CSV, or Parquet.",
)
@click.option(
    "--format", "event_format", metavar="NAME|FILE", help="How to read it, instead of TWINTIDE_EVENT_FORMAT."
)
@click.option(
    "--records", type=click.IntRange(min=1), default=5_000, show_default=True, help="How many to look at."
)
@click.option(
    "--min-share", type=click.FloatRange(0, 1), default=0.9, show_default=True,
    help="Exit with 1 where less than this share of what is not skipped would be applied.",
)  # fmt: skip
def main(
    topic: str | None, data_path: str | None, event_format: str | None, records: int, min_share: float
) -> None:
    """Read the newest events of a topic, and show what a worker would make of them.

    What would be applied; dead letters by reason, with one of each; behaviours, times, keys, duplicates and
    partitions; and warnings, such as seconds that are read as milliseconds. Reads the worker's settings
    (KAFKA_*, TWINTIDE_TOPIC, TWINTIDE_EVENT_*), writes nothing and joins no group.

    \b
    Examples:
      python -m stream.check --format shop.toml --topic clicks
      python -m stream.check --format shop.toml --data-path clicks.jsonl
    """
    settings = Settings.from_environment(os.environ)
    if topic is not None and data_path is not None:
        raise click.UsageError("--topic and --data-path exclude each other")
    if event_format is not None:
        settings = dataclasses.replace(settings, event_format=event_format, event_fields="", event_decoder="")
    if data_path is None:
        _check(settings, sample_of_topic(settings.kafka, topic or settings.topic, records), min_share)
        return
    file = find_files(data_path)[0]
    if is_json(file):
        _check(settings, sample_of_file(file, records), min_share)
    else:
        log_to_stderr(logging.WARNING)
        _check_log(data_path, read_log_format(settings.event_format or "tianchi"), min_share)


def _check(settings: Settings, sample: Sample, min_share: float) -> None:
    decoder = decoder_of_parts(settings)
    reader = None
    if not settings.event_decoder:
        reader = given_by(decoder, settings.event_fields, settings.event_format)
    each_path = each_path_of(decoder)
    found = examine(sample, decoder, reader, each_path)
    read_by = settings.event_format or settings.event_decoder or settings.event_fields or "the default format"
    for line in lines_of(sample, found, read_by):
        click.echo(line)
    if each_path and sample.is_topic:
        click.echo("workers read these events from the topic that python -m stream.rekey makes of them")
    _refuse_little(found.share, min_share)


def _check_log(data_path: str, log_format: LogFormat, min_share: float) -> None:
    log = read_behaviour_log(data_path, dataclasses.replace(log_format, bad_share=ANY_SHARE))
    rows = len(log) + log.bad_rows
    named = Counter(Behaviour(each).name.lower() for each in log.behaviour.tolist())
    moments = (datetime.fromtimestamp(each / 1000, UTC) for each in (log.time_ms.min(), log.time_ms.max()))
    click.echo(f"{log.path}: {rows:,} rows that are not skipped, {log.bad_rows:,} of them bad")
    click.echo(f"behaviours: {', '.join(f'{name} {count:,}' for name, count in named.most_common())}")
    click.echo("times: {:%Y-%m-%d %H:%M:%S} to {:%Y-%m-%d %H:%M:%S} UTC".format(*moments))
    click.echo(f"users: {len(np.unique(log.user.codes)):,}")
    _refuse_little(len(log) / rows, min_share)


def _refuse_little(share: float, min_share: float) -> None:
    if share == 0 or share < min_share:
        raise TwintideError(
            f"{share:.1%} of the events would be applied, less than --min-share {min_share:g}: see the "
            "reasons above; docs/data.md says how a format describes other events"
        )


if __name__ == "__main__":
    main()
