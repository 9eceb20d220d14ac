"""`python -m offline.archive`: the events of the topic -> Parquet files by day, each event once."""

import logging
import os
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import click

from models.command import log_to_stderr
from models.errors import TwintideError, UnreachableError
from offline.archiving.directory import Archive, Progress, opened
from offline.archiving.run import archive_topic, describe_offsets
from replay.control import Stop
from stream.command import ServerCommand
from stream.settings import Settings

logger = logging.getLogger("archive")

#: How often --follow looks whether it is to stop (s).
LOOK_S = 0.2


@click.command(cls=ServerCommand)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Directory of the archive, on a disk of this machine.",
)
@click.option("--follow", is_flag=True, help="Do not end at the topic's end: go on, until SIGINT or SIGTERM.")
@click.option(
    "--every-s",
    type=click.FloatRange(min=0, min_open=True),
    default=300.0,
    show_default=True,
    help="With --follow: seconds between two looks for new events; each makes files.",
)
@click.option(
    "--portion-events",
    type=click.IntRange(min=1),
    default=1_000_000,
    show_default=True,
    help="Events written together: what is in memory, and the most that a file holds.",
)
def main(out: Path, follow: bool, every_s: float, portion_events: int) -> None:
    """Write the events of the behaviour topic that are not in the archive yet to Parquet files, by day (UTC).

    Files are DIR/day=YYYY-MM-DD/part-N.parquet; a late event is in a later part of its own day. Killed at any
    point, and started again, it neither loses a row nor writes one twice. A producer's duplicates are rows of
    one event_id. Records that a worker could not read are left out and counted.

    Reads the worker's settings (KAFKA_*, TWINTIDE_TOPIC, TWINTIDE_EVENT_*), joins no group, and writes
    nothing to Kafka. The last line says what this call did, and where the next one continues.

    \b
    Examples:
      python -m offline.archive --out data/archive
      python -m offline.archive --out data/archive --follow --every-s 600
    """
    log_to_stderr()
    settings = Settings.from_environment(os.environ)
    try:
        with opened(out, settings.topic) as archive, Stop() as stop:
            before = archive.progress
            archive_topic(settings, archive, portion_events, stop.is_stopping)
            while follow and not stop.is_stopping():
                _wait(every_s, stop.is_stopping)
                _try_again(settings, archive, portion_events, stop.is_stopping)
            click.echo(_summary(before, archive.progress))
    except OSError as error:
        raise TwintideError(f"{out}: the archive cannot be written ({error})") from error


def _try_again(
    settings: Settings, archive: Archive, portion_events: int, is_stopping: Callable[[], bool]
) -> None:
    """Archive what is new; a Kafka that is down is only said."""
    before = archive.progress
    try:
        archive_topic(settings, archive, portion_events, is_stopping)
    except UnreachableError as error:
        logger.warning("%s; it is tried again", error)
    if archive.progress != before:
        logger.info(_summary(before, archive.progress))


def _wait(seconds: float, is_over: Callable[[], bool]) -> None:
    ends_at = time.monotonic() + seconds
    while not is_over() and (left := ends_at - time.monotonic()) > 0:
        time.sleep(min(left, LOOK_S))


def _summary(before: Progress, after: Progress) -> str:
    """Return what came to the archive between two moments."""
    rejected = Counter(after.rejected) - Counter(before.rejected)
    reasons = "".join(f" {reason}={count}" for reason, count in sorted(rejected.items()))
    return (
        f"archived: rows={after.rows - before.rows} rejected={rejected.total()} "
        f"forgets={after.forgets - before.forgets} lost={after.lost - before.lost} "
        f"continues_at={describe_offsets(after.offsets)}{reasons}"
    )


if __name__ == "__main__":
    main()
