"""`python -m stream.items`: the stream teaches the items, those too that appeared a minute ago."""

import os
import signal
from threading import Event

import click

from models.command import log_to_stderr
from stream.command import Seconds, ServerCommand
from stream.items import metrics
from stream.items.following import ItemsSettings
from stream.items.service import Service
from stream.settings import Settings
from stream.store.clients import redis_client
from stream.worker.health import serve


@click.command(cls=ServerCommand)
@click.option(
    "--snapshot-s",
    type=Seconds(),
    default=60.0,
    show_default=True,
    help="Seconds between two snapshots of the state: what is learned again after a crash.",
)
@click.option(
    "--bytes-per-s",
    type=click.IntRange(min=10_000),
    default=1_000_000,
    show_default=True,
    help="Bytes of live items that each reader takes in a second at most; what moved most comes first.",
)
@click.option(
    "--always", is_flag=True, help="Also for a model on whose own log live items did not help in training."
)
@click.option(
    "--metrics-port",
    type=click.IntRange(1, 65535),
    default=9111,
    show_default=True,
    help="Port of /health and /metrics, at TWINTIDE_METRICS_HOST; where it is taken, the next free one.",
)
def main(snapshot_s: float, bytes_per_s: int, always: bool, metrics_port: int) -> None:
    """Teach the items of every live model what the stream brings, and publish them to Redis each second.

    Of several learners one leads, by a lease in Redis, and the others wait. State and source offsets are one
    snapshot in Kafka, so a learner that is killed goes on where its last snapshot ends, with each event
    learned once.

    Reads the worker's settings (TWINTIDE_*, KAFKA_*, REDIS_*), joins no group, and writes nothing to the
    behaviour topic. Ends on SIGTERM or SIGINT.

    \b
    Example: python -m stream.items
    """
    log_to_stderr()
    settings = Settings.from_environment(os.environ)
    service = Service(
        settings,
        ItemsSettings(snapshot_s=snapshot_s, bytes_per_s=bytes_per_s, always=always),
        redis_client(settings.redis),
    )
    serve(settings.metrics_host, metrics_port, service.status.health, metrics.REGISTRY)
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    service.serve(stop)


if __name__ == "__main__":
    main()
