"""How every command line of Twintide behaves: one error line, exit 0, 1 (failed) or 2 (usage)."""

import errno
import io
import logging
import sys
from typing import Any

import click

from models.errors import SettingsError, TwintideError
from models.location import Location, location

#: The type of an option that takes an event time (UTC).
EVENT_TIME = click.DateTime(["%Y-%m-%d", "%Y-%m-%d %H", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S"])


class _LocationType(click.ParamType):
    name = "path or url"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Location:
        try:
            return location(value)
        except SettingsError as error:
            self.fail(str(error), param, ctx)


#: The type of an option that takes a path of this host or the URL of a bucket.
LOCATION = _LocationType()


class Command(click.Command):
    """A click command that prints a TwintideError as one line and exits with its code.

    What the host refuses where nothing nearer says so, such as a file that cannot be written, is a line too.
    """

    def invoke(self, ctx: click.Context) -> Any:
        if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
            # Ids may be of any script: what a terminal's encoding does not have is escaped.
            sys.stdout.reconfigure(errors="backslashreplace")
        try:
            return super().invoke(ctx)
        except TwintideError as error:
            failure = click.ClickException(str(error))
            failure.exit_code = error.exit_code
            raise failure from error
        except OSError as error:
            if error.errno == errno.EPIPE:  # of whoever reads our output, click says nothing
                raise
            where = f"{error.filename}: " if error.filename is not None else ""
            reason = error.strerror or " ".join(str(error).split())[:300]  # Arrow has words alone
            raise click.ClickException(f"{where}{reason}") from error


def log_to_stderr(level: int = logging.INFO) -> None:
    """Send log lines to stderr, so that stdout holds results alone."""
    logging.basicConfig(
        level=level, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
