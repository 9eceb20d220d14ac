"""How commands that talk to servers behave: what Kafka or Redis refuses midway is one line, too."""

import math
from typing import Any

import click
import redis
from confluent_kafka import KafkaException

from models.command import Command


class ServerCommand(Command):
    """A command of which whatever a server refuses, where nothing nearer says so, ends it with one line."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except redis.RedisError as error:
            raise click.ClickException(f"Redis does not answer, or refuses: {_in_one_line(error)}") from error
        except KafkaException as error:
            reason = error.args[0].str() or error.args[0].name()
            raise click.ClickException(f"Kafka does not do as asked: {reason}") from error


class Seconds(click.FloatRange):
    """A number of seconds, which ends; as many as librdkafka counts in milliseconds at most."""

    def __init__(self, *, above_0: bool = True, at_most: float = 2_000_000.0) -> None:
        super().__init__(min=0, max=at_most, min_open=above_0)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        found = float(super().convert(value, param, ctx))
        if math.isnan(found):
            self.fail(f"{value!r} is no number", param, ctx)
        return found


def _in_one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
