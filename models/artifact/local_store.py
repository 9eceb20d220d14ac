"""A store of artifacts as a directory: a directory for each version, a link, and a list of publications."""

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import mkdtemp

from models.artifact.publications import (
    Publication,
    check_replaced,
    last_number,
    next_number,
    publication_from,
)
from models.artifact.version_cache import PARTIAL, is_whole, place
from models.errors import ArtifactError, UnreachableError

#: The link to the active artifact, and the file with one line per publication.
CURRENT, PUBLICATIONS = "current", "publications.jsonl"
#: The file that whoever publishes has locked.
LOCK = ".publishing"


class LocalStore:
    """The artifacts in a directory."""

    def __init__(self, path: Path) -> None:
        self.where = path

    def prepare(self) -> Path:
        """Make the directory where it is not there; return where to keep what is not finished.

        Raises ArtifactError where it cannot be written to.
        """
        try:
            self.where.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.where):
                return self.where
        except OSError as error:
            raise ArtifactError(f"{self.where}: nothing can be written there ({error.strerror})") from error

    def current(self) -> Publication:
        """Return what is active. Raises ArtifactError."""
        try:
            version = (self.where / CURRENT).readlink().name
        except OSError as error:
            raise ArtifactError(
                f"{self.where / CURRENT} cannot be read ({error.strerror}): publish a version"
            ) from error
        return Publication(version, self.publication_of(version))

    def publication_of(self, version: str) -> int:
        """Return the number under which a version was published last, 0 for never."""
        return last_number(self._publications(), version)

    def publish(self, version: str, instead_of: Publication | None = None) -> int:
        """Make `version` the active artifact and return its publication number.

        One publishes at a time. The number is written first, then the link `current` is replaced at once, so
        a reader that follows it finds a number; where a crash left the number alone, it is taken up again.
        OvertakenError where the active one is not `instead_of`.
        """
        if not (self.where / version).is_dir():
            raise ArtifactError(f"{self.where / version} is not an artifact, so it cannot be published")
        with self._alone():
            if instead_of is not None:
                check_replaced(self.current(), instead_of, self.where)
            published = self._publications()
            left_behind = bool(published) and published[-1].version == version != self._linked()
            number = published[-1].number if left_behind else next_number(published)
            if not left_behind:
                self._append(version, number)
            self._link(version)
        return number

    def _append(self, version: str, number: int) -> None:
        entry = {"publication": number, "version": version, "published_at": datetime.now(UTC).isoformat()}
        left = json.dumps(entry).encode() + b"\n"
        with (self.where / PUBLICATIONS).open("ab", buffering=0) as file:
            end = file.seek(0, os.SEEK_END)
            try:
                while left:
                    left = left[file.write(left) :]
                os.fsync(file.fileno())
            except OSError:
                file.truncate(end)  # a full disk takes part of a line, and then nothing here could be read
                raise

    def _link(self, version: str) -> None:
        link = self.where / f".{CURRENT}-{os.getpid()}"
        link.unlink(missing_ok=True)
        link.symlink_to(version)
        link.replace(self.where / CURRENT)

    def _linked(self) -> str:
        link = self.where / CURRENT
        return link.readlink().name if link.is_symlink() else ""

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Wait until nobody else publishes here; a process that is killed gives its turn back."""
        with (self.where / LOCK).open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def directory(self, version: str) -> Path:
        """Return the directory of a version."""
        return self.where / version

    def add(self, directory: Path, version: str) -> None:
        """Have a copy of an artifact, unless it is here, undamaged."""
        target = self.where / version
        if target.is_dir() and (target.samefile(directory) or is_whole(target)):
            return
        partial = Path(mkdtemp(prefix=PARTIAL, dir=self.where))
        try:
            shutil.copytree(directory, partial, dirs_exist_ok=True)
            place(partial, target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _publications(self) -> list[Publication]:
        path = self.where / PUBLICATIONS
        try:
            lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise UnreachableError(f"{path} cannot be read ({error.strerror})") from error
        except UnicodeDecodeError as error:
            raise ArtifactError(f"{path} is damaged ({error}): each line must be a JSON object") from error
        try:
            entries = [json.loads(line) for line in lines]
        except ValueError as error:
            raise ArtifactError(f"{path} is damaged ({error}): each line must be a JSON object") from error
        return [publication_from(entry, path) for entry in entries]
