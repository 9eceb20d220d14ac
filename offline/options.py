"""Options that the commands of offline/ share, and the times that they take and show."""

import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, TypeVar

import click

from models.artifact.artifact import Artifact, load
from models.artifact.stores import find
from models.command import LOCATION
from models.errors import ArtifactError, SettingsError
from models.location import Location

logger = logging.getLogger(__name__)

#: How a time may be written in --until and --cutoff, beside epoch ms.
TIME_FORMATS = ("%Y-%m-%d %H", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d")
#: The end of the year 9999: what is more is no time (epoch ms).
LATEST_MS = 253_402_300_799_999

artifact_option = click.option(
    "--artifact",
    "artifact_path",
    type=LOCATION,
    default=Path("artifacts"),
    show_default=True,
    help="Artifact, or the store whose current one is meant: a path, or s3://, gs://, file://.",
)

data_path_option = click.option(
    "--data-path",
    multiple=True,
    default=("data/behaviour.csv",),
    show_default=True,
    metavar="PATH",
    help="Behaviour log: CSV or Parquet, a file, folder, glob or URL; give it again for more.",
)

cutoff_option = click.option(
    "--cutoff", help="Time to cut at instead of training's, 'YYYY-MM-DD HH[:MM[:SS]]' or epoch ms."
)


def parse_time(option: str, text: str) -> int:
    """Return the epoch ms of an option's time, written as in the log or as epoch ms. Raises SettingsError."""
    if text.isdecimal() and len(text) <= len(str(LATEST_MS)) and int(text) <= LATEST_MS:
        return int(text)
    for form in TIME_FORMATS:
        try:
            return int(datetime.strptime(text, form).replace(tzinfo=UTC).timestamp() * 1000)
        except ValueError:
            continue
    raise SettingsError(
        f"{option} is {text[:40]!r}; it must be like '2014-12-16 12', '2014-12-16 12:30:00' or epoch ms"
    )


def describe_time(time_ms: int) -> str:
    """Return an event time as people read it."""
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


class Evaluated(Protocol):
    """What `evaluated` asks of an artifact, whatever the kind of its model."""

    @property
    def version(self) -> str:
        """12 hex digits of its content."""

    @property
    def training(self) -> Mapping[str, Any]:
        """What it says of how it was trained."""


E = TypeVar("E", bound=Evaluated)


def load_evaluated(where: Location, cutoff: str | None) -> Artifact:
    """Return the artifact of a model that makes vectors whose figures mean something; see `evaluated`."""
    return evaluated(where, cutoff, load)


def evaluated(where: Location, cutoff: str | None, read: Callable[[Location], E]) -> E:
    """Return the artifact whose figures on rows from the cutoff on mean something: it has not learned them.

    A published artifact has learned every row of its log. The one beside it that its own figures are of has
    not; ArtifactError where that is not there.
    """
    artifact = read(where)
    version = artifact.training.get("held_out_version")
    if not version or (cutoff and parse_time("--cutoff", cutoff) > artifact.training["learned_until_ms"]):
        return artifact
    found = find(where)
    try:
        held_out = read(found.store.where / version)
    except ArtifactError as error:
        until = describe_time(artifact.training["learned_until_ms"])
        raise ArtifactError(
            f"{found.directory} has learned all rows until {until}, and {version}, which has not, is not "
            f"beside it ({error}): give a log that goes on, and a later --cutoff"
        ) from error
    logger.info("%s has learned these rows; the figures are of %s, which has not", artifact.version, version)
    return held_out


def cutoff_of(artifact: Evaluated, cutoff: str | None) -> int:
    """Return the time (epoch ms) that --cutoff gives, or else that the artifact was trained up to.

    Warns where the artifact has learned rows from there on.
    """
    cutoff_ms: int | None = artifact.training["cutoff_ms"]
    if cutoff is not None:
        cutoff_ms = parse_time("--cutoff", cutoff)
    if cutoff_ms is None:
        raise SettingsError(
            "the artifact was trained leave-one-out, or adopted without one, and has no cutoff: give --cutoff"
        )
    until_ms: int | None = artifact.training.get("learned_until_ms")
    if until_ms is not None and cutoff_ms < until_ms:
        logger.warning(
            "%s has learned rows until %s, and is asked about rows from %s on: the figures flatter it; give "
            "a later --cutoff",
            *(artifact.version, describe_time(until_ms), describe_time(cutoff_ms)),
        )
    return cutoff_ms


def warn_of_last(artifact: Evaluated) -> None:
    """Warn where an artifact may have learned users' last rows, which it is asked about."""
    training = artifact.training
    until_ms: int | None = training.get("learned_until_ms")
    is_held_out = training.get("protocol") == "leave-one-out" and "continued_from" not in training
    if until_ms is not None and not is_held_out:
        logger.warning(
            "%s has learned rows until %s, users' last ones among them, and is asked about these: "
            "the figures flatter it; train it with --protocol leave-one-out, or ask by time",
            *(artifact.version, describe_time(until_ms)),
        )
