"""Where this user's caches live; a place that can be written to, or else a temporary one."""

import logging
import os
import stat
import tempfile
from functools import cache
from pathlib import Path

logger = logging.getLogger(__name__)


def default_directory() -> Path:
    """Return where caches are kept unless told otherwise: twintide/ in the user's cache directory."""
    try:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:  # a user without a home
        base = Path("/nonexistent")
    return base / "twintide"


def writable_directory(name: str) -> Path:
    """Return the directory of this name under the cache's, made where it is not there.

    Where it cannot be written to, a temporary directory stands in, and a warning says so, once. Raises
    FileNotFoundError where there is none for temporary files either.
    """
    directory = default_directory() / name
    return directory if can_write(directory) else _stand_in(directory)


def can_write(directory: Path) -> bool:
    """Return whether files can be made in a directory, which is made where it is not there."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            return True
    except OSError:
        return False


@cache
def _stand_in(directory: Path) -> Path:
    """Return a temporary directory of this user alone, the same at every start where it can be."""
    chosen = Path(tempfile.gettempdir()) / f"twintide-{os.getuid()}" / directory.name
    chosen.parent.mkdir(mode=0o700, exist_ok=True)
    found = chosen.parent.lstat()
    is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022
    if not is_ours:
        chosen = Path(tempfile.mkdtemp(prefix="twintide-"))
    chosen.mkdir(exist_ok=True)
    logger.warning(
        "%s cannot be written: %s is used instead; set XDG_CACHE_HOME to a directory of yours",
        directory,
        chosen,
    )
    return chosen
