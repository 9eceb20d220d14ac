"""Which of a user's windows counts, of all that a changelog holds: the same rule for whoever reads one."""

from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

from models.windows.window import is_newer

K = TypeVar("K", bound=Hashable)


def newest(
    keys: Sequence[K], values: Sequence[bytes | None], stored: Mapping[K, bytes]
) -> dict[K, bytes | None]:
    """Return each key's value to keep, of records in their order and what is stored already.

    A worker that was cut off from the group may still have written an older window after its successor's
    newer one: of two windows of one source partition, the one that has folded more stays. A tombstone always
    counts.
    """
    newest: dict[K, bytes | None] = {}
    for key, value in zip(keys, values, strict=True):
        known = newest[key] if key in newest else stored.get(key)
        if known is None or value is None or is_newer(value, known):
            newest[key] = value
    return newest
