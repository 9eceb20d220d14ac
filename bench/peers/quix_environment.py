"""Quix Streams' own virtual environment: it wants an older confluent-kafka than Twintide has."""

from importlib.metadata import version
from pathlib import Path

from bench.peers.environment import python_with
from local.servers import LOCAL

QUIX_VERSION = "3.28.1"
#: What bench.peers.job needs beside it, at the versions that Twintide runs with.
SHARED = ("msgspec", "xxhash")


def quix_python(directory: Path = LOCAL / "bench-quix") -> Path:
    """Return the Python of an environment with Quix Streams, made where it is not there yet."""
    requirements = [f"quixstreams=={QUIX_VERSION}", *(f"{name}=={version(name)}" for name in SHARED)]
    return python_with(requirements, directory, "leave quix out of --peers")
