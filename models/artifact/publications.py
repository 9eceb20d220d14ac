"""Which artifact of a store is the active one, and which ever was."""

import json
import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from models.errors import ArtifactError

#: The link to the active artifact, and the file with one line per publication.
CURRENT, PUBLICATIONS = "current", "publications.jsonl"


@dataclass(frozen=True, slots=True)
class Publication:
    """One version of the artifact, and the number under which it was published last (0: never)."""

    version: str
    number: int


def publish(store: Path, version: str) -> int:
    """Make `version` the store's active artifact and return its publication number.

    Numbers grow within a store, and are the time (epoch ms), so that the publication of another store, or of
    a copy that was left behind, is known to be older. The number is written first, then the link `current` is
    replaced at once, so a reader that follows it finds a number.
    """
    if not (store / version).is_dir():
        raise ArtifactError(f"{store / version} is not an artifact, so it cannot be published")
    last = max((entry["publication"] for entry in _publications(store)), default=0)
    number = max(last + 1, time.time_ns() // 1_000_000)
    entry = {"publication": number, "version": version, "published_at": datetime.now(UTC).isoformat()}
    with (store / PUBLICATIONS).open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")
        file.flush()
        os.fsync(file.fileno())
    link = store / f".{CURRENT}-{os.getpid()}"
    link.unlink(missing_ok=True)
    link.symlink_to(version)
    link.replace(store / CURRENT)
    return number


def store_of(path: Path) -> Path | None:
    """Return the store whose active artifact `path` means; None where it is one artifact by itself."""
    if (path / CURRENT).is_symlink():
        return path
    return path.parent if path.name == CURRENT and path.is_symlink() else None


def current_publication(store: Path) -> Publication:
    """Return what is active in a store. Raises ArtifactError."""
    try:
        version = (store / CURRENT).readlink().name
    except OSError as error:
        raise ArtifactError(
            f"{store / CURRENT} cannot be read ({error.strerror}): publish a version"
        ) from error
    return Publication(version, publication_of(store, version))


def publication_of(store: Path, version: str) -> int:
    """Return the number under which `store` published `version` last, 0 for never."""
    numbers = (entry["publication"] for entry in _publications(store) if entry["version"] == version)
    return max(numbers, default=0)


def _publications(store: Path) -> list[dict[str, Any]]:
    path = store / PUBLICATIONS
    if not path.exists():
        return []
    try:
        entries = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
        return [{"publication": int(e["publication"]), "version": str(e["version"])} for e in entries]
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(
            f'{path} is damaged ({error}); each line must be {{"publication": n, "version": v}}'
        ) from error
