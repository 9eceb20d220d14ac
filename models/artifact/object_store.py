"""A store of artifacts in a bucket, which knows neither links, nor renames, nor appending; needs no torch.

    VERSION/config.json …        the files of an artifact, written first
    VERSION/checksums.json       written last: without it, there is no artifact
    publications.json            all publications, the active one last; replaced by a conditional write

A reader never lists anything, and needs one small object to know what is active.
"""

import hashlib
import json
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from models.artifact.bucket import Bucket, Content
from models.artifact.files import CHECKSUMS, files_of, read_json, to_json, version_of
from models.artifact.publications import (
    Publication,
    check_replaced,
    last_number,
    next_number,
    publication_from,
)
from models.artifact.version_cache import VersionCache
from models.cache_directory import writable_directory
from models.errors import ArtifactError, NoArtifactError
from models.location import BucketUrl

#: The list of publications, and what shows that the bucket can be written to.
PUBLICATIONS, MARKER = "publications.json", "store.txt"

#: Versions whose last publication is remembered.
REMEMBERED = 1_000
#: How often one tries to publish while others do, and the longest pause before the next try (s).
TRIES, PAUSE_S = 20, 0.2


@dataclass(frozen=True, slots=True)
class _Published:
    """What the list of publications held when it was read last; entries as they stand there."""

    content: Content
    entries: list[dict[str, Any]]
    publications: list[Publication]


class ObjectStore:
    """The artifacts under the URL of a bucket; used from several threads.

    Every call that asks the bucket raises UnreachableError where it does not answer or refuses.
    """

    def __init__(self, where: BucketUrl, cache: VersionCache | None = None) -> None:
        self.where = where
        self.cache = cache or VersionCache()
        self._bucket = Bucket(where)
        self._published: _Published | None = None

    def prepare(self) -> Path:
        """Write a small object, to see that it can be done; return where to keep what is not finished."""
        self._bucket.upload(MARKER, b"written to see whether artifacts can be; see python -m offline.train\n")
        return writable_directory(f"training-{hashlib.sha256(str(self.where).encode()).hexdigest()[:12]}")

    def is_store(self) -> bool:
        """Return whether anything has been published here."""
        return self._read_published() is not None

    def current(self) -> Publication:
        """Return what is active. Raises ArtifactError."""
        published = self._read_published()
        if published is None:
            raise ArtifactError(f"{self.where / PUBLICATIONS} is not there: publish a version")
        return published.publications[-1]

    def publication_of(self, version: str) -> int:
        """Return the number under which a version was published last, 0 for never."""
        published = self._read_published()
        return last_number(published.publications, version) if published else 0

    def publish(self, version: str, instead_of: Publication | None = None) -> int:
        """Make `version` the active artifact and return its publication number.

        Who publishes at the same time gets another number: the list is replaced only where it still is the
        one that was read. OvertakenError where its last one is not `instead_of`.
        """
        self._require_whole(version)
        for _ in range(TRIES):
            published = self._read_published()
            check_replaced(published.publications[-1] if published else None, instead_of, self.where)
            number = next_number(published.publications if published else [])
            entry = {"publication": number, "version": version, "published_at": datetime.now(UTC).isoformat()}
            before = [each for each in (published.entries if published else []) if each["version"] != version]
            content = to_json({"publications": [*before[1 - REMEMBERED :], entry]})
            if self._bucket.write(PUBLICATIONS, content, published.content.tag if published else None):
                return number
            # A write whose answer was lost is tried again by the client, and then meets itself.
            found = self._read_published()
            if found and found.entries[-1] == entry:
                return number
            time.sleep(random.uniform(0, PAUSE_S))
        raise ArtifactError(
            f"{self.where / PUBLICATIONS} could not be replaced in {TRIES} tries: others publish at the same "
            "time, or the bucket knows no conditional writes (If-Match)"
        )

    def directory(self, version: str) -> Path:
        """Return the directory of a version on this host, fetched where it is not here yet."""
        return self.cache.fetched(version, lambda into: fetch(self.where / version, version, into))

    def add(self, directory: Path, version: str) -> None:
        """Have a copy of an artifact, unless it is here.

        What is there with another size is written again. A crash leaves no artifact: checksums come last.
        """
        bucket = Bucket(self.where / version)
        names = files_of(read_json(directory / CHECKSUMS))
        files = [directory / name for name in (*names, CHECKSUMS)]
        changed = [file for file in files if bucket.size(file.name) != file.stat().st_size]
        for file in changed:
            bucket.upload(file.name, file)

    def _require_whole(self, version: str) -> None:
        bucket = Bucket(self.where / version)
        names = files_of(read_checksums(bucket)) if bucket.size(CHECKSUMS) is not None else (CHECKSUMS,)
        for name in names:
            if bucket.size(name) is None:
                raise ArtifactError(
                    f"{bucket.url / name} is missing, so {version} cannot be published: give "
                    "`python -m offline.publish` the artifact's directory where it was made"
                )

    def _read_published(self) -> _Published | None:
        """Return the publications; only asks whether they have changed where they are known."""
        known = self._published
        content = (
            self._bucket.read_unless(PUBLICATIONS, known.content)
            if known
            else self._bucket.read(PUBLICATIONS)
        )
        if content is None:
            self._published = None
        elif known is None or content is not known.content:
            self._published = _parse(content, self.where / PUBLICATIONS)
        return self._published


def _parse(content: Content, where: BucketUrl) -> _Published:
    try:
        entries = json.loads(content.data)["publications"]
        publications = [publication_from(entry, where) for entry in entries]
        publications[-1]
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise ArtifactError(f"{where} is damaged ({error!r}): remove it and publish again") from error
    return _Published(content, entries, publications)


def fetch(url: BucketUrl, version: str, into: Path) -> None:
    """Write an artifact's files into a directory. Raises ArtifactError where one is missing or damaged."""
    bucket = Bucket(url)
    checksums = read_checksums(bucket)
    if version_of(checksums) != version:
        raise ArtifactError(f"model {version} is not at {url}, where {version_of(checksums)} is")
    (into / CHECKSUMS).write_bytes(to_json(checksums))
    for name in files_of(checksums):
        found = bucket.download(name, into / name)
        if found != checksums[name]:
            raise ArtifactError(
                f"{url / name} is damaged: its SHA-256 begins {found[:12]}, {CHECKSUMS} says "
                f"{str(checksums[name])[:12]}; remove it, and publish the artifact from where it was made"
            )


def read_checksums(bucket: Bucket) -> Mapping[str, Any]:
    """Return the checksums of the artifact at a URL. Raises ArtifactError where there is none."""
    content = bucket.read(CHECKSUMS)
    if content is None:
        raise NoArtifactError(bucket.url, "python -m offline.train --save-dir URL")
    try:
        checksums = json.loads(content.data)
        version_of(checksums)
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{bucket.url / CHECKSUMS} is damaged ({error!r}): publish it again") from error
    return dict(checksums)
