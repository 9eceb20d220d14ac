"""`python -m stream.canary`: freshness as a ranker sees it, for an alert or for a deploy."""

import logging
import os
import signal
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import click
import redis
from confluent_kafka import Producer
from prometheus_client import start_http_server

from models.command import log_to_stderr
from models.durations import duration_s
from models.errors import SettingsError, TwintideError
from stream.canary import metrics
from stream.canary.canary import ASK_EVERY_S, Canary, CanarySettings
from stream.canary.encoding import make_encoder
from stream.canary.event_clock import EventClock, newest_event_ms
from stream.canary.users import canary_users
from stream.canary.verdict import complaints, summary
from stream.command import Seconds, ServerCommand
from stream.events.decoder import decoder_of
from stream.forget import forget
from stream.kafka.topics import partition_counts
from stream.serving import Reader
from stream.settings import Settings
from stream.store.clients import redis_client

logger = logging.getLogger(__name__)

#: Users who are forgotten at the same time, and how long to wait for the proof (s).
FORGET_THREADS = 8
FORGET_S = 10.0


@click.command(cls=ServerCommand)
@click.option(
    "--for", "duration", metavar="TIME", help="How long to send: 60s, 5m, 1h; without: until it is stopped."
)
@click.option("--p99-ms", type=click.FloatRange(min=0), help="Fail where 99 % of the events take longer.")
@click.option(
    "--every-s",
    default=1.0,
    show_default=True,
    type=Seconds(),
    help="Each partition gets an event every so many seconds.",
)
@click.option(
    "--lost-after-s",
    default=30.0,
    show_default=True,
    type=Seconds(),
    help="An event that is not readable by then is lost, and fails the run.",
)
@click.option("--name", default="", help="A name in its users' ids; without: a new one with every start.")
@click.option(
    "--metrics-port",
    default=9110,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="Port of /metrics, at TWINTIDE_METRICS_HOST; 0: none. There is none with --for.",
)
@click.option(
    "--event-encoder",
    default="",
    metavar="MODULE:FUNCTION",
    help="Writes an event as your workers read it, where that is no JSON.",
)
@click.pass_context
def main(
    context: click.Context,
    /,
    duration: str | None,
    p99_ms: float | None,
    every_s: float,
    lost_after_s: float,
    name: str,
    metrics_port: int,
    event_encoder: str,
) -> None:
    """Measure how long it takes until a ranker can read what a user did.

    Sends events of users of its own, one user in each partition, and asks Redis for them as a ranker does.
    The users' ids begin with `twintide-canary-`, and are forgotten at the end; nothing that learns from the
    stream learns from them. Reads the worker's settings (KAFKA_*, REDIS_*, TWINTIDE_*).

    Ends with a line of figures; exit 1 where an event was never readable, or --p99-ms was not met.

    \b
    Example: python -m stream.canary --for 60s --p99-ms 500
    """
    log_to_stderr()
    for_s = duration_s("--for", duration) if duration else None
    settings = Settings.from_environment(os.environ)
    run_name = uuid4().hex[:8]
    users = _users(settings, name or run_name)
    canary_settings = CanarySettings(settings.topic, users, run_name, every_s, lost_after_s)
    stopping = _stopped_by_signals()
    canary = _canary(settings, canary_settings, event_encoder, stopping)
    if for_s is None and metrics_port:
        _serve_metrics(settings.metrics_host, metrics_port)
    run(canary, for_s, stopping)
    wrong = complaints(canary.found, p99_ms) + forget_all(settings, users)
    click.echo(f"{summary(canary.found, len(users))} {'FAILED' if wrong else 'OK'}")
    if wrong:
        click.echo(f"Error: {'; '.join(wrong)}", err=True)
        context.exit(1)


def run(canary: Canary, for_s: float | None, stopping: threading.Event) -> None:
    """Send for so long (s), or until it is to stop, and wait for what is not readable yet."""
    started = time.monotonic()
    while not stopping.is_set() and (for_s is None or time.monotonic() - started < for_s):
        canary.step(is_sending=True)
        time.sleep(ASK_EVERY_S)
    stopping.set()
    while canary.is_waiting:
        canary.step(is_sending=False)
        time.sleep(ASK_EVERY_S)


def forget_all(settings: Settings, users: Sequence[str]) -> list[str]:
    """Have the users forgotten, and return what is wrong where that could not be proved, in words."""

    def forgotten(user_id: str) -> bool:
        try:
            forget(settings, user_id, FORGET_S)
        except (TwintideError, redis.RedisError) as error:
            logger.warning("%s", error)
            return False
        return True

    with ThreadPoolExecutor(FORGET_THREADS) as pool:
        left = [user for user, is_done in zip(users, pool.map(forgotten, users), strict=True) if not is_done]
    return [f"not forgotten in time, until a worker runs: {', '.join(left)}"] if left else []


def _users(settings: Settings, name: str) -> tuple[str, ...]:
    partitions = partition_counts(settings.kafka).get(settings.topic)
    if partitions is None:
        raise TwintideError(f"there is no topic {settings.topic}: start a worker, or set TWINTIDE_TOPIC")
    if not settings.encode:
        raise SettingsError("TWINTIDE_ENCODE is false: such workers write no vectors to wait for")
    return tuple(canary_users(name, partitions))


def _canary(
    settings: Settings, canary_settings: CanarySettings, event_encoder: str, stopping: threading.Event
) -> Canary:
    decoder = decoder_of(settings)
    event_clock = EventClock(lambda: newest_event_ms(settings, decoder))
    threading.Thread(target=event_clock.keep_following, args=(stopping,), daemon=True).start()
    producer = Producer(
        {
            **settings.kafka.librdkafka(),
            "acks": "all",
            "enable.idempotence": True,
            "linger.ms": 0,
            "message.timeout.ms": round(canary_settings.lost_after_s * 1000),
            "log_level": 0,
        }
    )
    return Canary(
        canary_settings,
        producer,
        Reader(redis_client(settings.redis), key_prefix=settings.key_prefix),
        make_encoder(settings, decoder, event_encoder),
        event_clock,
    )


def _stopped_by_signals() -> threading.Event:
    """Return what the first SIGINT or SIGTERM sets; a second ends the process."""
    stopping = threading.Event()
    signals = (signal.SIGINT, signal.SIGTERM)

    def stop(*_: object) -> None:
        stopping.set()
        for number in signals:
            signal.signal(number, signal.SIG_DFL)

    for number in signals:
        signal.signal(number, stop)
    return stopping


def _serve_metrics(host: str, port: int) -> None:
    try:
        start_http_server(port, host, metrics.REGISTRY)
    except OSError as error:
        raise SettingsError(f"--metrics-port {port} of {host} is not free ({error.strerror})") from error


if __name__ == "__main__":
    main(prog_name="python -m stream.canary")
