"""Artifacts of a bucket as this host keeps them: each under its version, whole or not at all; needs no torch.

A version is the hash of an artifact's content, so what is kept here is right whichever bucket it came from.
"""

import fcntl
import logging
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp

from models.artifact.files import check_whole
from models.cache_directory import writable_directory
from models.errors import ArtifactError, UnreachableError

logger = logging.getLogger(__name__)

#: Versions that are kept, those used last.
KEPT = 6
#: After this, what a process has begun and not finished is of one that died (s).
ABANDONED_S = 86_400.0

#: What has been begun, and who is fetching, beside the versions.
PARTIAL, LOCK = ".partial-", ".lock-"


class VersionCache:
    """A directory of artifacts that the processes of a host share."""

    def __init__(self, home: Path | None = None) -> None:
        self.home = home or writable_directory("artifacts")

    def find(self, version: str) -> Path | None:
        """Return the directory of a version that is here and undamaged."""
        directory = self.home / version
        if not is_whole(directory):
            return None
        with suppress(OSError):  # only says which was used last
            directory.touch()
        return directory

    def fetched(self, version: str, fetch: Callable[[Path], None]) -> Path:
        """Return the directory of a version, which `fetch` fills where it is not here.

        One process of the host fetches, others wait for it. Raises what `fetch` does, and UnreachableError
        where the files cannot be written.
        """
        if found := self.find(version):
            return found
        try:
            with self._alone(version):
                return self.find(version) or self._fetch(version, fetch)
        except OSError as error:
            raise UnreachableError(
                f"artifact {version} cannot be written to {self.home} ({error.strerror or error}): make room "
                "there, or set XDG_CACHE_HOME"
            ) from error

    def _fetch(self, version: str, fetch: Callable[[Path], None]) -> Path:
        started, target = time.monotonic(), self.home / version
        partial = Path(mkdtemp(prefix=PARTIAL, dir=self.home))
        try:
            fetch(partial)
            place(partial, target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        logger.info("artifact %s fetched into %s in %.1f s", version, target, time.monotonic() - started)
        self.prune()
        return target

    def prune(self) -> None:
        """Remove the versions that were not used for longest, and what dead processes left."""
        with suppress(OSError):  # another process prunes too
            entries = [(path.stat().st_mtime, path) for path in self.home.iterdir()]
            versions = sorted(entry for entry in entries if not entry[1].name.startswith("."))
            begun = [entry for entry in entries if entry[1].name.startswith((PARTIAL, LOCK))]
            abandoned = [entry for entry in begun if time.time() - entry[0] > ABANDONED_S]
            for _, path in [*abandoned, *versions[:-KEPT]]:
                path.unlink() if path.is_file() else shutil.rmtree(path)

    @contextmanager
    def _alone(self, version: str) -> Iterator[None]:
        """Wait until no other process fetches this version."""
        with (self.home / f"{LOCK}{version}").open("w") as file:
            with suppress(OSError):  # a file system without locks: then two may fetch, and one is kept
                fcntl.flock(file, fcntl.LOCK_EX)
            yield


def place(partial: Path, target: Path) -> None:
    """Give a directory its version as its name at once, unless the same content has it already.

    What has the name and is damaged gives way: whoever makes the artifact again is to have it.
    """
    try:
        partial.chmod(0o755)
        partial.rename(target)
    except OSError:
        if not target.is_dir():
            raise
        if not is_whole(target):
            logger.warning("%s is damaged: it is replaced", target)
            shutil.rmtree(target, ignore_errors=True)
            partial.rename(target)


def is_whole(directory: Path) -> bool:
    """Return whether a directory, which is called as its version, holds that undamaged."""
    try:
        check_whole(directory, directory.name)
    except ArtifactError:
        return False
    return True
