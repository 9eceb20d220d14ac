"""How commands end that a server leaves midway, or that are asked for what makes no sense."""

from typing import Any

import click
import pytest
import redis
from click.testing import CliRunner
from confluent_kafka import KafkaError, KafkaException

from stream.command import Seconds, ServerCommand
from stream.forget import main as forget


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            redis.ConnectionError("Connection refused"),
            "Redis does not answer, or refuses: Connection refused",
        ),
        (redis.exceptions.NoPermissionError("no hget\nfor you"), "Redis does not .*: no hget for you"),
        (KafkaException(KafkaError(29, "denied")), "Kafka does not do as asked: denied"),
    ],
)
def test_server_that_refuses_midway_is_one_line(error: Exception, line: str) -> None:
    @click.command(cls=ServerCommand)
    def ask() -> None:
        raise error

    result = CliRunner().invoke(ask)
    (said,) = result.stderr.splitlines()
    assert result.exit_code == 1
    assert said.startswith(f"Error: {line.partition('.*')[0]}") and said.endswith(line.rpartition(": ")[2])


@pytest.mark.parametrize("given", ["nan", "inf", "-1", "0", "1e300", "soon"])
def test_seconds_that_make_no_sense_are_refused(given: str) -> None:
    @click.command(cls=ServerCommand)
    @click.option("--wait-s", type=Seconds())
    def wait(wait_s: float) -> None:
        click.echo(wait_s)

    result = CliRunner().invoke(wait, ["--wait-s", given])
    assert result.exit_code == 2 and "Invalid value for '--wait-s'" in result.stderr
    assert CliRunner().invoke(wait, ["--wait-s", "0.5"]).stdout == "0.5\n"


@pytest.mark.parametrize("options", [[], ["--item"]])
@pytest.mark.parametrize(
    ("given", "line"),
    [
        ("x" * 70_000, "Error: an id has .* bytes at most, and this 70000: it is nobody's"),
        ("\udcff", "Error: '\\udcff' is nobody's id, as it is no UTF-8"),
    ],
)
def test_what_is_nobodys_id_is_refused_before_anything_is_asked(
    given: str, line: str, options: list[Any]
) -> None:
    environment = {"REDIS_URL": "redis://127.0.0.1:1/0", "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}
    result = CliRunner().invoke(forget, [given, *options], env=environment)
    (said,) = result.stderr.splitlines()
    assert result.exit_code == 1
    assert said.startswith(line.partition(" .* ")[0]) and said.endswith(line.rpartition(" .* ")[2])
