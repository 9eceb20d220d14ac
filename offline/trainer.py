"""`python -m offline.trainer`: go on from the model that serves by the hour, publish what is no worse."""

import os
import signal
from functools import partial
from threading import Event

import click

from models.command import Command, log_to_stderr
from models.durations import duration_s
from models.errors import SettingsError
from models.log.cache import read_cached
from models.log.format import log_format_option, read_log_format
from offline.continual import metrics
from offline.continual.pause import Pause
from offline.continual.service import Status, once, serve
from offline.continual.step import Step
from offline.publishing.publication import followed_store
from offline.stream_log.log import read_stream_log
from stream.kafka.topics import end_offsets
from stream.settings import Settings
from stream.store.clients import redis_client
from stream.store.lease import Lease
from stream.store.model_registry import ModelRegistry
from stream.worker.health import serve as serve_health


@click.command(cls=Command)
@click.option("--every", default="1h", show_default=True, help="Time between two steps: 90s, 30m, 1h, 1d.")
@click.option(
    "--events",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="So many new events on the topic begin a step before that; 0: they do not.",
)
@click.option("--once", "is_once", is_flag=True, help="Make one step, and end.")
@click.option(
    "--data-path",
    multiple=True,
    metavar="PATH",
    help="Behaviour log, as offline.train takes it.  [default: the workers' changelog]",
)
@log_format_option
@click.option(
    "--min-held-out",
    type=click.IntRange(1),
    default=200,
    show_default=True,
    help="New rows that judge a model at least; there must be twice as many.",
)
@click.option(
    "--metrics-port",
    type=click.IntRange(0, 65535),
    default=9109,
    show_default=True,
    help="Port of /health and /metrics, at TWINTIDE_METRICS_HOST; 0: none. There is none with --once.",
)
def main(
    every: str,
    events: int,
    is_once: bool,
    data_path: tuple[str, ...],
    log_format: str,
    min_held_out: int,
    metrics_port: int,
) -> None:
    """Go on from the model that serves with what is new, and publish what comes of it if it ranks no worse.

    A step reads what the stream holds, holds the newest tenth of the new rows back, and goes on with the
    others. Only where the result ranks the rows held back no worse than the model that serves, gives sane
    vectors, and knows every item still, does it learn those rows too and is published; the workers roll it
    out. Otherwise the model stays, and the next step, with more rows, tries again.

    Of several trainers one leads, by a lease in Redis, and the others wait. A trainer that is killed leaves
    nothing to be mended: start it again.

    Reads the worker's settings (TWINTIDE_*, KAFKA_*, REDIS_*). With --once, exit 1 where it is refused.

    \b
    Example:
      python -m offline.trainer --every 1h --events 1000000
      python -m offline.trainer --once
    """
    log_to_stderr()
    every_s = duration_s("--every", every)
    settings = Settings.from_environment(os.environ)
    log_kind = read_log_format(log_format)
    read = partial(read_cached, data_path, log_kind) if data_path else partial(read_stream_log, settings)
    client = redis_client(settings.redis)
    lease = Lease(client, settings.key_prefix)
    registry = ModelRegistry(client, settings.key_prefix)
    step = Step(read, followed_store(settings.artifact), registry, lease, min_held_out)
    if is_once:
        done = once(step, lease)
        click.echo(done.line)
        raise SystemExit(int(done.result == "refused"))
    status = Status()
    _answer(settings.metrics_host, metrics_port, status)
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    pause = Pause(every_s, events, lambda: sum(end_offsets(settings.kafka, settings.topic).values()))
    serve(step, lease, pause, stop, status)


def _answer(host: str, port: int, status: Status) -> None:
    """Answer /health and /metrics, unless the port is 0. Raises SettingsError where it is not free."""
    if not port:
        return
    try:
        serve_health(host, port, lambda: status.health, metrics.REGISTRY, ports_tried=1)
    except SettingsError as error:
        reason = getattr(error.__context__, "strerror", None) or "in use"
        raise SettingsError(f"--metrics-port {port} of {host} is not free ({reason})") from error


if __name__ == "__main__":
    main()
