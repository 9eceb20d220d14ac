"""Quix Streams' own virtual environment: it wants an older confluent-kafka than Twintide has."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from local.servers import LOCAL
from models.errors import TwintideError

QUIX_VERSION = "3.28.1"
#: What bench.peers.job needs beside it, at the versions that Twintide runs with.
SHARED = ("msgspec", "xxhash")


def quix_python(directory: Path = LOCAL / "bench-quix") -> Path:
    """Return the Python of an environment with Quix Streams, made where it is not there yet."""
    requirements = [f"quixstreams=={QUIX_VERSION}", *(f"{name}=={version(name)}" for name in SHARED)]
    python, installed = directory / "bin" / "python", directory / "installed"
    if installed.exists() and installed.read_text() == repr(requirements):
        return python
    _run(sys.executable, "-m", "venv", "--clear", str(directory))
    _run(str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements)
    installed.write_text(repr(requirements))
    return python


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=600)
    if done.returncode:
        words = (done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()
        raise TwintideError(
            f"Quix Streams' environment cannot be made ({' '.join(command[1:4])}: {words[-1][:200]}): "
            "see that pip reaches its index, or leave quix out of --peers"
        )
