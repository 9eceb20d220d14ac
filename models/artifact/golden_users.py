"""Golden users: fixed histories whose vectors an artifact stores, for whoever loads it to check."""

import numpy as np

from models.arrays import Floats
from models.errors import ArtifactError
from models.ids.vocabulary import Vocabulary
from models.ids.vocabulary_file import FIRST_KNOWN, UNKNOWN
from models.windows.histories import Histories

#: Events of each golden user: none, one, both sides of what the towers read, and more than a window holds.
LENGTHS = (0, 1, 2, 9, 11, 40, 110, 150)

#: Largest difference from the stored vectors: room for other hardware and other kernels, not for a mistake.
TOLERANCE = 1e-3

_FIRST_MS = 1_700_000_000_000
#: Pauses between a golden user's events, over and over (ms): the same time, a session, a day.
_PAUSES_MS = (0, 60_000, 5_000, 3_600_000, 86_400_000)


def golden_histories(vocabulary: Vocabulary) -> Histories:
    """Return the golden users' histories: the same for every vocabulary of this size and these categories."""
    event = np.arange(sum(LENGTHS))
    known = len(vocabulary.item_ids)
    item = FIRST_KNOWN + event * 7_919 % known if known else np.full(len(event), UNKNOWN)
    item = np.where(event % 13 == 5, UNKNOWN, item).astype(np.int64)
    category = vocabulary.categories_of(item, np.full(len(event), UNKNOWN, dtype=np.int64))
    pauses_ms = np.array(_PAUSES_MS)[event % len(_PAUSES_MS)]
    starts = np.concatenate(([0], np.cumsum(LENGTHS))).astype(np.int64)
    return Histories(
        item, category, (1 + event % 4).astype(np.uint8), _FIRST_MS + np.cumsum(pauses_ms), starts
    )


def check_golden(version: str, found: Floats, stored: Floats | None, item_vectors: Floats) -> None:
    """Raise ArtifactError where the golden users' vectors are not those that were saved.

    found (G, D): the golden users as this machine encodes them; stored (G, D): as they were saved. Where
    stored is None, found must only be finite and differ between users. item_vectors (I, D) must be finite
    always. version is for the message.
    """
    for name, vectors in (("user", found), ("item", item_vectors)):
        if not np.isfinite(vectors).all():
            raise ArtifactError(f"model {version} has {name} vectors that are not finite: train it again")
    if not _spread(found) > 0:
        raise ArtifactError(f"model {version} gives every user the same vector: train it again")
    if stored is None:
        return
    if stored.shape != found.shape:
        raise ArtifactError(
            f"model {version} stores golden vectors {stored.shape}, this version makes {found.shape}: it was "
            "saved by another version, save it again"
        )
    difference = float(np.abs(found - stored).max())
    if not difference <= TOLERANCE:
        raise ArtifactError(
            f"model {version} encodes its golden users otherwise than when it was saved (by "
            f"{difference:.1e}, allowed {TOLERANCE:.0e}): this machine or version computes something else"
        )


def _spread(vectors: Floats) -> float:
    return float(np.abs(vectors - vectors[0]).max(initial=0.0))
