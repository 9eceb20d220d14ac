"""`python -m offline.bootstrap`: a new deployment that starts warm, with a log's windows and vectors."""

import os
import time
from datetime import UTC, datetime

import click

from models.command import EVENT_TIME, log_to_stderr
from models.log.behaviour_log import read_behaviour_log
from models.log.format import log_format_option, read_log_format
from offline.warm_start.rows import sound_rows
from offline.warm_start.state import bootstrap
from stream.command import ServerCommand
from stream.kafka.topics import partition_counts
from stream.settings import Settings


@click.command(cls=ServerCommand)
@click.argument("data_path", nargs=-1, required=True)
@log_format_option
@click.option("--until", type=EVENT_TIME, metavar="TIME", help="Only rows before this time (UTC).")
@click.option(
    "--from", "live_from", type=EVENT_TIME, metavar="TIME",
    help="The live topic continues at its first event of this time (UTC) or later; by default at its end.",
)  # fmt: skip
@click.option(
    "--replace", is_flag=True, help="Throw away the windows and offsets that the group already has."
)
def main(
    data_path: tuple[str, ...],
    log_format: str,
    until: datetime | None,
    live_from: datetime | None,
    replace: bool,
) -> None:
    """Fill windows and Redis with the behaviour log DATA_PATH, so that a new deployment starts warm.

    Windows become records of the workers' changelog, vectors go to Redis where there is an artifact, and the
    group's offsets say where the worker continues on the live topic: at its end, or with --from. An event of
    the topic that is also a row of the log is a duplicate, if `python -m replay` sent it; where other
    producers did, give --until and --from the same time. TIME is YYYY-MM-DD, or with HH, HH:MM or HH:MM:SS.

    Reads the worker's settings (KAFKA_*, REDIS_*, TWINTIDE_*). Exit 1 where a worker of the group is running,
    or where it has windows already. What interrupts it costs nothing: start it again.

    \b
    Example:
      python -m offline.bootstrap data/behaviour.csv --until "2014-12-17" --from "2014-12-17"
    """
    log_to_stderr()
    settings = Settings.from_environment(os.environ)
    partition_counts(settings.kafka)  # tells whether Kafka is there, before a large file is read
    rows = read_behaviour_log(data_path, read_log_format(log_format))
    log = sound_rows(rows, _epoch_ms(until), time.time())
    click.echo(str(bootstrap(settings, log, _epoch_ms(live_from), replace=replace)))


def _epoch_ms(moment: datetime | None) -> int | None:
    return None if moment is None else round(moment.replace(tzinfo=UTC).timestamp() * 1_000)


if __name__ == "__main__":
    main()
