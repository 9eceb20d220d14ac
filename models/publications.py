"""Which artifact of a store is the active one, and which ever was."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from models.errors import ArtifactError

#: The link to the active artifact, and the file with one line per publication.
CURRENT, PUBLICATIONS = "current", "publications.jsonl"


def publish(store: Path, version: str) -> int:
    """Make `version` the store's active artifact and return its publication number.

    The number is written first, then the link `current` is replaced at once, so a reader that follows it
    finds a number.
    """
    if not (store / version).is_dir():
        raise ArtifactError(f"{store / version} is not an artifact, so it cannot be published")
    number = max((entry["publication"] for entry in _publications(store)), default=0) + 1
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
