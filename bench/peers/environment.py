"""A virtual environment of a peer's own: peers want other packages, or other versions, than Twintide has."""

import subprocess
import sys
from pathlib import Path

from models.errors import TwintideError


def python_with(requirements: list[str], directory: Path, otherwise: str) -> Path:
    """Return the Python of an environment with these requirements, made where it is not there yet.

    otherwise: what its user can do where it cannot be made.
    """
    python, installed = directory / "bin" / "python", directory / "installed"
    if installed.exists() and installed.read_text() == repr(requirements):
        return python
    _run(otherwise, sys.executable, "-m", "venv", "--clear", str(directory))
    pip = (str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    _run(otherwise, *pip, *requirements)
    installed.write_text(repr(requirements))
    return python


def _run(otherwise: str, *command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=1800)
    if done.returncode:
        words = (done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()
        raise TwintideError(
            f"the environment {Path(command[0]).parent.parent} cannot be made ({' '.join(command[1:4])}: "
            f"{words[-1][:200]}): see that pip reaches its index, or {otherwise}"
        )
