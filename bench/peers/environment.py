"""A virtual environment of a peer's own: peers want other packages, or other versions, than Twintide has."""

import subprocess
import sys
import sysconfig
from pathlib import Path

from models.errors import TwintideError


def python_with(requirements: list[str], directory: Path, otherwise: str, over_ours: bool = False) -> Path:
    """Return the Python of an environment with these requirements, made where it is not there yet.

    otherwise: what its user can do where it cannot be made. over_ours: what Twintide's own environment has
    already, such as torch, is not installed again.
    """
    python, installed = directory / "bin" / "python", directory / "installed"
    if installed.exists() and installed.read_text() == repr(requirements):
        return python
    _run(otherwise, sys.executable, "-m", "venv", "--clear", str(directory))
    if over_ours:
        (own,) = directory.glob("lib/python*/site-packages")
        (own / "twintide_packages.pth").write_text(sysconfig.get_path("purelib") + "\n")
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
