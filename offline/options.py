"""Options that the commands of offline/ share, and the times that they take and show."""

import logging
from datetime import UTC, datetime
from pathlib import Path

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


def load_evaluated(where: Location, cutoff: str | None) -> Artifact:
    """Return the artifact whose figures on rows from the cutoff on mean something: it has not learned them.

    A published artifact has learned every row of its log. The one beside it that its own figures are of has
    not; ArtifactError where that is not there.
    """
    artifact = load(where)
    version = artifact.training.get("held_out_version")
    if not version or (cutoff and parse_time("--cutoff", cutoff) > artifact.training["learned_until_ms"]):
        return artifact
    try:
        held_out = load(find(where).store.where / version)
    except ArtifactError as error:
        until = describe_time(artifact.training["learned_until_ms"])
        raise ArtifactError(
            f"{artifact.path} has learned all rows until {until}, and {version}, which has not, is not "
            f"beside it ({error}): give a log that goes on, and a later --cutoff"
        ) from error
    logger.info("%s has learned these rows; the figures are of %s, which has not", artifact.version, version)
    return held_out


def cutoff_of(artifact: Artifact, cutoff: str | None) -> int:
    """Return the time (epoch ms) that --cutoff gives, or else that the artifact was trained up to."""
    if cutoff is not None:
        return parse_time("--cutoff", cutoff)
    cutoff_ms: int | None = artifact.training["cutoff_ms"]
    if cutoff_ms is None:
        raise SettingsError(
            "the artifact was trained leave-one-out, or adopted without one, and has no cutoff: give --cutoff"
        )
    return cutoff_ms
