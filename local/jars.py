"""Jars: exactly those of a lock file, fetched once by jgo, kept under the home directory's cache.

    python -m local.jars local/kafka.lock       # resolve what its first line names again, and rewrite it

A lock line is `sha256 group:artifact:version`. Nothing is resolved at run time, so a start needs no network.
"""

import hashlib
import logging
import os
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import jgo
from jgo.config import GlobalSettings
from jgo.maven import MavenContext

from local.lock import alone
from models.errors import UnreachableError

#: The jars of Kafka's broker.
KAFKA_LOCK = Path(__file__).with_name("kafka.lock")
#: Tries per jar, and seconds without a byte after which a try has failed.
TRIES, DOWNLOAD_TIMEOUT_S = 3, 60

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Jar:
    """One pinned jar."""

    sha256: str
    group: str
    artifact: str
    version: str

    @property
    def file_name(self) -> str:
        """Return the file name, the same as in a Maven repository."""
        return f"{self.artifact}-{self.version}.jar"


def endpoint(lock: Path) -> str:
    """Return what the jars of a lock file are resolved from, as jgo writes it: the first line says it."""
    return lock.read_text().split(maxsplit=2)[1].removesuffix(";")


def locked_jars(lock: Path) -> list[Jar]:
    """Return the jars of a lock file, in its order."""
    lines = [line.split() for line in lock.read_text().splitlines() if line and not line.startswith("#")]
    return [Jar(sha256, *coordinate.split(":")) for sha256, coordinate in lines]


def cache_directory(lock: Path) -> Path:
    """Return where the locked jars live: under $XDG_CACHE_HOME or ~/.cache, by the lock's content."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "twintide" / f"{lock.stem}-{hashlib.sha256(lock.read_bytes()).hexdigest()[:16]}"


def fetched_jars(lock: Path, otherwise: str) -> list[Path]:
    """Return the paths of a lock file's jars, fetched and verified first where they are not there yet.

    otherwise: what its user can do where they cannot be fetched.
    """
    directory, jars = cache_directory(lock), locked_jars(lock)
    paths = [directory / jar.file_name for jar in jars]
    if all(path.exists() for path in paths):
        return paths
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with alone(directory / ".lock"), ThreadPoolExecutor(8) as pool:
            log.info("fetching the jars of %s into %s (once)", lock.name, directory)
            list(pool.map(lambda jar: _fetch(jar, directory, otherwise), jars))
    except PermissionError as error:
        raise UnreachableError(
            f"cannot write the jars to {directory}: set XDG_CACHE_HOME to a directory of yours"
        ) from error
    return paths


def _fetch(jar: Jar, directory: Path, otherwise: str) -> None:
    """Put a verified jar into the directory; a jar that is there is whole, since it arrives by a rename."""
    if (directory / jar.file_name).exists():
        return
    failure: Exception | None = None
    for _ in range(TRIES):
        with tempfile.TemporaryDirectory(dir=directory, prefix=".fetch-") as scratch:
            try:
                path = _download(jar, Path(scratch))
            except Exception as error:  # requests' errors and jgo's plain ones alike
                failure = error
                continue
            if sha256_of(path) != jar.sha256:
                failure = ValueError("its sha256 is not the one in the lock file")
                continue
            path.replace(directory / jar.file_name)
            return
    raise UnreachableError(
        f"{jar.group}:{jar.artifact}:{jar.version} could not be fetched after {TRIES} tries ({failure}): "
        f"check the network, or {otherwise}"
    ) from failure


def _download(jar: Jar, repository: Path) -> Path:
    """Return the jar's path in a Maven repository directory that jgo downloads it to."""
    artifact = maven_context(repository).project(jar.group, jar.artifact).at_version(jar.version).artifact()
    return Path(artifact.resolve())


def maven_context(repository: Path) -> MavenContext:
    """Return jgo's settings with the repositories of the user's jgo configuration, where there are any."""
    mirrors = GlobalSettings.load().repositories or None
    return MavenContext(repo_cache=repository, remote_repos=mirrors, timeout=DOWNLOAD_TIMEOUT_S)


def sha256_of(path: Path) -> str:
    """Return a file's sha256 in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_lock(lock: Path) -> None:
    """Resolve a lock file's endpoint and write its lines anew."""
    scratch = Path(tempfile.mkdtemp())
    try:
        lines = []
        for found in jgo.resolve(endpoint(lock)):
            jar = Jar("", found.groupId, found.artifactId, found.version)
            digest = sha256_of(_download(jar, scratch))
            lines.append(f"{digest} {jar.group}:{jar.artifact}:{jar.version}\n")
        lock.write_text(f"# {endpoint(lock)}; made by `python -m local.jars`\n" + "".join(lines))
    finally:
        shutil.rmtree(scratch)


if __name__ == "__main__":
    write_lock(Path(sys.argv[1]))
