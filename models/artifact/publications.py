"""A publication: which version, under which number."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from models.errors import ArtifactError


@dataclass(frozen=True, slots=True)
class Publication:
    """One version of the artifact, and the number under which it was published last (0: never)."""

    version: str
    number: int


class OvertakenError(ArtifactError):
    """Something else has been published than what was to be replaced."""


def check_replaced(found: Publication | None, instead_of: Publication | None, where: object) -> None:
    """Raise OvertakenError where `instead_of` is given and what was found active is not that."""
    if instead_of is not None and found != instead_of:
        active = f"{found.version}, publication {found.number}" if found else "nothing"
        raise OvertakenError(
            f"{where} has {active} active, and not {instead_of.version}, publication {instead_of.number}, "
            "which was to be replaced: somebody else has published meanwhile"
        )


def next_number(published: Sequence[Publication]) -> int:
    """Return the number of the next publication of a store.

    Numbers grow within a store, and are the time (epoch ms), so that the publication of another store, or of
    a copy that was left behind, is known to be older.
    """
    last = max((each.number for each in published), default=0)
    return max(last + 1, time.time_ns() // 1_000_000)


def last_number(published: Sequence[Publication], version: str) -> int:
    """Return the number under which a version was published last, 0 for never."""
    return max((each.number for each in published if each.version == version), default=0)


def publication_from(entry: Any, where: object) -> Publication:
    """Return the publication of a JSON object. Raises ArtifactError, which says where it was read."""
    try:
        return Publication(str(entry["version"]), int(entry["publication"]))
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(
            f'{where} is damaged ({error}); each entry must be {{"publication": n, "version": v}}'
        ) from error
