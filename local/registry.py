"""Apicurio Registry 3 as a child process on loopback: a real schema registry with Confluent's API."""

import shutil
import tarfile
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

from local.jars import Jar, cache_directory, locked_jars, maven_context, sha256_of
from local.java import find_java
from local.lock import alone
from local.ports import free_port
from local.processes import ServerProcess
from models.errors import UnreachableError

#: The distribution that is run.
REGISTRY_LOCK = Path(__file__).with_name("registry.lock")
#: Apicurio 3.3 needs a newer Java than Kafka.
OLDEST_JAVA = 21
#: A small and quickly started Java; data outlive a restart.
OPTIONS = ("-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Dquarkus.http.host=127.0.0.1")


class RegistryServer:
    """A registry with its data in `directory`; `start` after `kill` or `stop` has the same port and data."""

    def __init__(self, directory: Path) -> None:
        self.port, self._management_port = free_port(), free_port()
        self.process = ServerProcess("registry", directory, self.port)
        self.directory = self.process.directory

    @property
    def url(self) -> str:
        """Return where Confluent's API is."""
        return f"http://127.0.0.1:{self.port}/apis/ccompat/v7"

    def start(self) -> None:
        """Start the registry and return when it answers."""
        program = _fetched(locked_jars(REGISTRY_LOCK)[0])
        self.directory.mkdir(parents=True, exist_ok=True)
        settings = {
            "quarkus.http.port": self.port,
            "quarkus.management.host": "127.0.0.1",
            "quarkus.management.port": self._management_port,
            "apicurio.datasource.url": f"jdbc:h2:file:{self.directory / 'data'}",
        }
        options = [*OPTIONS, *(f"-D{name}={value}" for name, value in settings.items())]
        self.process.start([str(find_java(OLDEST_JAVA)), *options, "-jar", str(program)], self._is_ready)

    def stop(self) -> None:
        """Stop the registry cleanly."""
        self.process.stop()

    def kill(self) -> None:
        """End the registry as a crash does (SIGKILL)."""
        self.process.kill()

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/subjects", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False


def _fetched(distribution: Jar) -> Path:
    """Return the jar to run of a distribution, which is fetched and unpacked once."""
    directory = cache_directory(REGISTRY_LOCK)
    program = directory / "quarkus-run.jar"
    if program.exists():
        return program
    directory.parent.mkdir(parents=True, exist_ok=True)
    with alone(directory.with_suffix(".lock")), tempfile.TemporaryDirectory(dir=directory.parent) as scratch:
        if program.exists():
            return program
        archive = _downloaded(distribution, Path(scratch) / "maven")
        if sha256_of(archive) != distribution.sha256:
            raise UnreachableError(
                f"{archive.name} is not what {REGISTRY_LOCK.name} says: its sha256 differs"
            )
        whole = Path(scratch) / "whole"
        with tarfile.open(archive) as content:
            content.extractall(whole, filter="data")
        shutil.move(whole, directory)
    return program


def _downloaded(distribution: Jar, repository: Path) -> Path:
    component = maven_context(repository).project(distribution.group, distribution.artifact)
    try:
        artifact = component.at_version(distribution.version).artifact("all", "tar.gz")
        return Path(artifact.resolve())
    except Exception as error:  # requests' errors and jgo's plain ones alike
        raise UnreachableError(
            f"Apicurio {distribution.version} could not be fetched ({error}): check the network"
        ) from error
