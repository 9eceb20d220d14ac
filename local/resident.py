"""`./run up` and `./run down`: servers that outlive the command, in `.local/`."""

import shlex
from collections.abc import Mapping
from pathlib import Path

import click

from local.kafka import KafkaServer
from local.lock import alone
from local.pidfile import PidFile
from local.ports import free_port
from local.redis import RedisServer

#: The ports that Kafka's and Redis's clients expect; others where something has them already.
USUAL_KAFKA_PORT, USUAL_REDIS_PORT = 9092, 6379


def up(directory: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """Start what is missing and return the two variables to export; says on stderr what it did."""
    with alone(directory / "lock"):
        return {
            "KAFKA_BOOTSTRAP_SERVERS": _kafka(directory / "kafka", environment),
            "REDIS_URL": _redis(directory / "redis", environment),
        }


def down(directory: Path) -> list[str]:
    """Stop the servers that `up` started and return the names of those that ran."""
    stopped = []
    with alone(directory / "lock"):
        if running_port(directory / "kafka") is not None:
            KafkaServer(directory / "kafka", detached=True).stop()
            stopped.append("kafka")
        if running_port(directory / "redis") is not None:
            RedisServer(directory / "redis", detached=True).stop()
            stopped.append("redis")
    return stopped


def running_port(directory: Path) -> int | None:
    """Return the port of the server that runs in the directory, None where none does."""
    pid_file = PidFile(directory.resolve() / "server.pid")
    record = pid_file.read()
    return record.port if record is not None and pid_file.process() is not None else None


def exports(variables: Mapping[str, str]) -> str:
    """Return the shell line that sets the variables."""
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in variables.items())


def _kafka(directory: Path, environment: Mapping[str, str]) -> str:
    port = running_port(directory)
    if port is None and environment.get("KAFKA_BOOTSTRAP_SERVERS"):
        _say(
            f"Kafka: KAFKA_BOOTSTRAP_SERVERS is set ({environment['KAFKA_BOOTSTRAP_SERVERS']}); none started"
        )
        return environment["KAFKA_BOOTSTRAP_SERVERS"]
    server = KafkaServer(directory, free_port(USUAL_KAFKA_PORT) if port is None else port, detached=True)
    if port is None:
        server.start()
    _say(f"Kafka {'started' if port is None else 'already runs'} on {server.bootstrap_servers}")
    return server.bootstrap_servers


def _redis(directory: Path, environment: Mapping[str, str]) -> str:
    port = running_port(directory)
    if port is None and environment.get("REDIS_URL"):
        _say("Redis: REDIS_URL is set; none started")
        return environment["REDIS_URL"]
    server = RedisServer(
        directory, free_port(USUAL_REDIS_PORT) if port is None else port, durable=True, detached=True
    )
    if port is None:
        server.start()
    _say(f"Redis {'started' if port is None else 'already runs'} on {server.url}")
    return server.url


def _say(line: str) -> None:
    click.echo(line, err=True)
