"""Kafka's jars: exactly those of kafka.lock, fetched once by jgo, kept under the home directory's cache.

    python -m local.jars        # resolve ENDPOINT again and rewrite kafka.lock

A lock line is `sha256 group:artifact:version`. Nothing is resolved at run time, so a start needs no network.
"""

import fcntl
import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import jgo
from jgo.config import GlobalSettings
from jgo.maven import MavenContext

from models.errors import UnreachableError

ENDPOINT = "org.apache.kafka:kafka_2.13:4.1.1+org.slf4j:slf4j-simple:1.7.36"
LOCK = Path(__file__).with_name("kafka.lock")
#: Tries per jar, and seconds without a byte after which a try has failed.
TRIES, TIMEOUT_S = 3, 60

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


def locked_jars() -> list[Jar]:
    """Return the jars of kafka.lock, in its order."""
    lines = [line.split() for line in LOCK.read_text().splitlines() if line and not line.startswith("#")]
    return [Jar(sha256, *coordinate.split(":")) for sha256, coordinate in lines]


def cache_directory() -> Path:
    """Return where the locked jars live: under $XDG_CACHE_HOME or ~/.cache, by the lock's content."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "twintide" / f"kafka-{hashlib.sha256(LOCK.read_bytes()).hexdigest()[:16]}"


def kafka_jars() -> list[Path]:
    """Return the paths of all jars, fetched and verified first where they are not there yet."""
    directory, jars = cache_directory(), locked_jars()
    paths = [directory / jar.file_name for jar in jars]
    if all(path.exists() for path in paths):
        return paths
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with _alone(directory / ".lock"), ThreadPoolExecutor(8) as pool:
            log.info("fetching Kafka's jars into %s (once, about 45 MB)", directory)
            list(pool.map(lambda jar: _fetch(jar, directory), jars))
    except PermissionError as error:
        raise UnreachableError(
            f"cannot write Kafka's jars to {directory}: set XDG_CACHE_HOME to a directory of yours"
        ) from error
    return paths


def _fetch(jar: Jar, directory: Path) -> None:
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
                failure = ValueError("its sha256 is not the one in kafka.lock")
                continue
            path.replace(directory / jar.file_name)
            return
    raise UnreachableError(
        f"{jar.group}:{jar.artifact}:{jar.version} could not be fetched after {TRIES} tries ({failure}): "
        "check the network, or set KAFKA_BOOTSTRAP_SERVERS to a broker you have"
    ) from failure


def _download(jar: Jar, repository: Path) -> Path:
    """Return the jar's path in a Maven repository directory that jgo downloads it to."""
    artifact = _context(repository).project(jar.group, jar.artifact).at_version(jar.version).artifact()
    return Path(artifact.resolve())


def _context(repository: Path) -> MavenContext:
    """Return jgo's settings with the repositories of the user's jgo configuration, where there are any."""
    mirrors = GlobalSettings.load().repositories or None
    return MavenContext(repo_cache=repository, remote_repos=mirrors, timeout=TIMEOUT_S)


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Hold a lock that ends with the process."""
    with lock.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def sha256_of(path: Path) -> str:
    """Return a file's sha256 in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_lock() -> None:
    """Resolve ENDPOINT and write kafka.lock."""
    scratch = Path(tempfile.mkdtemp())
    try:
        lines = []
        for found in jgo.resolve(ENDPOINT):
            jar = Jar("", found.groupId, found.artifactId, found.version)
            digest = sha256_of(_download(jar, scratch))
            lines.append(f"{digest} {jar.group}:{jar.artifact}:{jar.version}\n")
        LOCK.write_text(f"# {ENDPOINT}; made by `python -m local.jars`\n" + "".join(lines))
    finally:
        shutil.rmtree(scratch)


if __name__ == "__main__":
    write_lock()
