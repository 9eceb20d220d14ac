"""How every command line of Twintide behaves: one error line, exit 0, 1 (failed) or 2 (usage)."""

import logging
import sys
from typing import Any

import click

from models.errors import TwintideError

#: The type of an option that takes an event time (UTC).
EVENT_TIME = click.DateTime(["%Y-%m-%d", "%Y-%m-%d %H", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S"])


class Command(click.Command):
    """A click command that prints a TwintideError as one line and exits with its code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except TwintideError as error:
            failure = click.ClickException(str(error))
            failure.exit_code = error.exit_code
            raise failure from error


def log_to_stderr(level: int = logging.INFO) -> None:
    """Send log lines to stderr, so that stdout holds results alone."""
    logging.basicConfig(
        level=level, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
