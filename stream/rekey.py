"""`python -m stream.rekey`: a topic that is keyed otherwise -> the behaviour topic, keyed by user id."""

import dataclasses
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from models.command import log_to_stderr
from stream.command import ServerCommand
from stream.rekeying.run import rekey
from stream.settings import Settings


@click.command(cls=ServerCommand)
@click.option("--topic", required=True, help="The topic to read.")
@click.option("--to", help="The topic to write; TWINTIDE_TOPIC, or user-behavior, where nothing is said.")
@click.option(
    "--format", "event_format", metavar="NAME|FILE", help="How to read it, instead of TWINTIDE_EVENT_FORMAT."
)
@click.option(
    "--partitions", type=click.IntRange(min=1), show_default="as many as --topic has",
    help="Partitions of --to, where it must be made.",
)  # fmt: skip
@click.option("--follow", is_flag=True, help="Do not end at the topic's end: go on, until SIGINT or SIGTERM.")
def main(topic: str, to: str | None, event_format: str | None, partitions: int | None, follow: bool) -> None:
    """Send every event of a topic to one that is keyed by user id, each counted once.

    Events become plain JSON, so workers need no format; the partition follows from the user id as the Java
    clients have it, and the record's timestamp is the event time. An event without an id gets one of its
    topic, partition and offset. What a format says to skip is left out, and what cannot be read goes to the
    dead letters. Killed, and started again, it loses nothing, and what it sends again has the id that it had,
    by which workers know a duplicate.

    Reads the worker's settings (KAFKA_*, TWINTIDE_TOPIC, TWINTIDE_DEAD_LETTER_TOPIC, TWINTIDE_EVENT_*).

    \b
    Examples:
      python -m stream.rekey --topic clicks --format shop.toml
      python -m stream.rekey --topic clicks --format shop.toml --to user-behavior --follow
    """
    log_to_stderr()
    settings = Settings.from_environment(os.environ)
    settings = dataclasses.replace(settings, topic=to or settings.topic)
    if event_format is not None:
        settings = dataclasses.replace(settings, event_format=event_format, event_fields="", event_decoder="")
    with _signals() as is_stopping:
        click.echo(rekey(settings, topic, partitions, follow=follow, is_stopping=is_stopping))


@contextmanager
def _signals() -> Iterator[Callable[[], bool]]:
    """Give what says whether SIGINT or SIGTERM has come: then what was sent is waited for."""
    has_come = threading.Event()
    signals = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda *_: has_come.set()) for number in signals}
    try:
        yield has_come.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    main()
