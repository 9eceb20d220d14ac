"""`python -m stream.serving`: fresh vectors, ranking and recommendations over HTTP."""

import os
import signal
import socket
from collections.abc import Callable
from threading import Event, Thread

import click

from models.command import Command, log_to_stderr
from models.errors import SettingsError, TwintideError
from models.location import location
from stream.serving.ranker import Ranker
from stream.serving.reader import Reader
from stream.serving.recommender import Recommender
from stream.settings import Settings
from stream.store.clients import redis_client
from stream.store.model_registry import ModelRegistry


@click.command(cls=Command)
def main() -> None:
    """Answer POST /rank, POST /recommend and GET /vector/{user}, with all of an answer of one model.

    Reads the settings TWINTIDE_SERVING_HOST and _PORT, TWINTIDE_RANKER, TWINTIDE_MAX_AGE_S, and the
    worker's: TWINTIDE_ARTIFACT, TWINTIDE_KEY_PREFIX, REDIS_*. Needs the `serve` extra. A new model or ranker
    is taken as soon as it is published. Ends on SIGTERM or SIGINT, after the requests that it has begun.

    \b
    Example: TWINTIDE_RANKER=rankers python -m stream.serving
    """
    log_to_stderr()
    settings = Settings.from_environment(os.environ)
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    serve(settings, stop)


def serve(settings: Settings, stop: Event) -> None:
    """Answer until `stop` is set. Raises TwintideError where that cannot begin."""
    try:
        import uvicorn

        from stream.serving.api import Served, make_app
        from stream.serving.keeper import Keeper
    except ImportError as error:
        raise TwintideError(f"serving needs {error.name}: pip install 'twintide[serve]'") from error
    client = redis_client(settings.redis)
    reader = Reader(client, key_prefix=settings.key_prefix, max_age_s=settings.max_age_s)
    recommender = Recommender(reader, settings.artifact)
    where = location(settings.ranker) if settings.ranker else None
    ranker = Ranker(reader, recommender, where, threads=settings.ranker_threads)
    keeper = Keeper(ModelRegistry(client, settings.key_prefix), recommender, ranker)
    listening = _listen(settings.serving_host, settings.serving_port)
    config = uvicorn.Config(
        make_app(Served(reader, ranker, keeper)),
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=max(1, round(settings.drain_s)),
    )
    server = uvicorn.Server(config)
    # In threads of their own they leave signals to us; where one ends by itself, so does the other.
    answering = Thread(target=_until_stopped, args=(stop, lambda: server.run([listening])))
    keeping = Thread(target=_until_stopped, args=(stop, lambda: keeper.run(stop)))
    for thread in (keeping, answering):
        thread.start()
    stop.wait()
    has_failed = not (answering.is_alive() and keeping.is_alive())
    server.should_exit = True
    for thread in (answering, keeping):
        thread.join()
    if has_failed:
        raise TwintideError("the API has ended by itself: its log says why")


def _until_stopped(stop: Event, run: Callable[[], object]) -> None:
    try:
        run()
    finally:
        stop.set()


def _listen(host: str, port: int) -> socket.socket:
    """Return what listens there; clients know the port, so no other is taken."""
    try:
        # Only a socket that says TCP has asyncio turn off Nagle's algorithm, which costs 40 ms an answer.
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
        family, kind, protocol, _, address = found[0]
        listening = socket.socket(family, kind, protocol)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
        except OSError:
            listening.close()
            raise
        return listening
    except OSError as error:
        raise SettingsError(
            f"TWINTIDE_SERVING_HOST {host} and TWINTIDE_SERVING_PORT {port}: nothing can listen there "
            f"({error.strerror})"
        ) from error


if __name__ == "__main__":
    main(prog_name="python -m stream.serving")
