"""Which behaviour log a command reads: a file, or what the stream holds."""

import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from models.errors import SettingsError
from models.log.behaviour_log import BehaviourLog
from models.log.cache import read_cached
from models.log.format import read_log_format
from offline.stream_log.log import read_stream_log
from stream.settings import Settings

F = TypeVar("F", bound=Callable[..., Any])


def from_stream_option(command: F) -> F:
    """Give a command with --data-path and --format the flag --from-stream, for `read_log`."""
    return click.option(
        "--from-stream",
        is_flag=True,
        help="Instead of a file, read the workers' changelog: every user's last events, exactly as "
        "they are encoded. Reads the worker's settings (KAFKA_*, TWINTIDE_*).",
    )(command)


def read_log(data_path: Sequence[str], log_format: str, from_stream: bool) -> BehaviourLog:
    """Return the log that a command's options name; SettingsError where they conflict, and DataError."""
    if not from_stream:
        return read_cached(data_path, read_log_format(log_format))
    context = click.get_current_context()
    for name, option in (("data_path", "--data-path"), ("log_format", "--format")):
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            raise SettingsError(
                f"--from-stream reads no file, so it excludes {option}: leave one of them out"
            )
    return read_stream_log(Settings.from_environment(os.environ))
