"""What a location means: a store of artifacts, followed by who polls it, or one artifact; needs no torch."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from models.artifact.bucket import Bucket
from models.artifact.files import CHECKSUMS, read_json, version_of
from models.artifact.local_store import CURRENT, LocalStore
from models.artifact.object_store import ObjectStore, fetch, read_checksums
from models.artifact.publications import Publication
from models.artifact.version_cache import VersionCache
from models.errors import ArtifactError, NoArtifactError
from models.location import BucketUrl, Location

#: How a version is written.
VERSION = re.compile("[0-9a-f]{12}")


class Store(Protocol):
    """Versions of the artifact, one of them active."""

    @property
    def where(self) -> Location:
        """Return what a person calls it."""

    def prepare(self) -> Path:
        """See that it can be written to, before hours of work; return where to keep that work meanwhile."""

    def current(self) -> Publication:
        """Return what is active. Raises ArtifactError."""

    def publication_of(self, version: str) -> int:
        """Return the number under which a version was published last, 0 for never."""

    def publish(self, version: str, instead_of: Publication | None = None) -> int:
        """Make a version the active one and return its publication number. Raises ArtifactError.

        Where `instead_of` is given and is not what is active any more: OvertakenError, and nothing is done.
        """

    def directory(self, version: str) -> Path:
        """Return where a version's files are on this host. Raises ArtifactError."""

    def add(self, directory: Path, version: str) -> None:
        """Have a copy of an artifact, unless it is here. Raises ArtifactError."""


@dataclass(frozen=True, slots=True)
class Found:
    """An artifact's directory on this host, and the store that it is in."""

    directory: Path
    store: Store


def open_store(where: Location) -> Store:
    """Return the store at a path or a URL; a bucket is not asked yet."""
    return ObjectStore(where) if isinstance(where, BucketUrl) else LocalStore(where)


def store_of(where: Location) -> Store | None:
    """Return the store whose active artifact a location means; None where it is one artifact by itself."""
    if isinstance(where, BucketUrl):
        if where.name == CURRENT:
            return ObjectStore(where.parent)
        store = ObjectStore(where)
        return store if not VERSION.fullmatch(where.name) and store.is_store() else None
    if (where / CURRENT).is_symlink():
        return LocalStore(where)
    return LocalStore(where.parent) if where.name == CURRENT and where.is_symlink() else None


def find(where: Location) -> Found:
    """Return the artifact at a location: its directory, or a store's, whose active one is meant.

    What is in a bucket is fetched, unless it is here already. Raises ArtifactError where there is none.
    """
    if isinstance(where, BucketUrl):
        store = store_of(where)
        if store is None:
            return Found(_fetched(where), ObjectStore(where.parent))
        return Found(store.directory(store.current().version), store)
    directory = _directory_of(where)
    return Found(directory, LocalStore(directory.parent))


def is_there(where: Location) -> bool:
    """Return whether anything is there: of a bucket, a store that has published, or an artifact."""
    if isinstance(where, BucketUrl):
        store = ObjectStore(where.parent if where.name == CURRENT else where)
        return store.is_store() or is_artifact(where)
    return where.exists()


def is_artifact(where: Location) -> bool:
    """Return whether there is one artifact by itself."""
    if isinstance(where, BucketUrl):
        return Bucket(where).size(CHECKSUMS) is not None
    return (where / CHECKSUMS).exists()


def read_version(where: Location) -> str:
    """Return the version of the artifact at a location, without all of its files. Raises ArtifactError."""
    if isinstance(where, BucketUrl):
        store = store_of(where)
        return store.current().version if store else version_of(read_checksums(Bucket(where)))
    return version_of(read_json(_directory_of(where) / CHECKSUMS))


def _fetched(url: BucketUrl) -> Path:
    """Return one artifact of a bucket as it is on this host; one called as its version may be here."""
    cache = VersionCache()
    if VERSION.fullmatch(url.name) and (found := cache.find(url.name)):
        return found
    version = version_of(read_checksums(Bucket(url)))
    return cache.fetched(version, lambda into: fetch(url, version, into))


def _directory_of(path: Path) -> Path:
    """Return the artifact directory that `path` means; ArtifactError where there is none."""
    if (path / CURRENT).is_symlink() and not (path / CURRENT).exists():
        missing = (path / CURRENT).readlink()
        raise ArtifactError(
            f"{path / CURRENT} points at {missing}, which is not there: publish another version"
        )
    directory = path / CURRENT if (path / CURRENT).exists() else path
    if not directory.is_dir():
        raise NoArtifactError(path, "python -m offline.train")
    if not (directory / CHECKSUMS).exists():
        raise ArtifactError(
            f"{directory} is not an artifact ({CHECKSUMS} is missing): give a directory that "
            "`python -m offline.train` wrote"
        )
    return directory.resolve()
