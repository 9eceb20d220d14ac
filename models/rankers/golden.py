"""Golden users and candidates: what a ranker gives them is stored, and asked again where it is loaded."""

import numpy as np

from models.arrays import Floats, Ints
from models.artifact.golden_users import golden_histories
from models.errors import ArtifactError
from models.ids.vocabulary import Vocabulary
from models.ids.vocabulary_file import FIRST_KNOWN, UNKNOWN
from models.ranker import Candidates
from models.windows.histories import Histories

#: Candidates of each golden user; how long after its newest event each is asked about (ms).
CANDIDATES, LATER_MS = 5, 90_000
#: Largest difference from the stored scores: room for other hardware and other kernels, not for a mistake.
TOLERANCE = 1e-3


def golden_questions(vocabulary: Vocabulary) -> tuple[Histories, Candidates, Ints]:
    """Return the golden users, their candidates, unknown ones among them, and when they are asked about."""
    histories = golden_histories(vocabulary)
    users, known = len(histories), len(vocabulary.item_ids)
    place = np.arange(users * CANDIDATES)
    item = FIRST_KNOWN + place * 6_007 % known if known else np.full(len(place), UNKNOWN)
    item = np.where(place % CANDIDATES == 0, UNKNOWN, item).astype(np.int64)
    category = vocabulary.categories_of(item, np.full(len(item), UNKNOWN, np.int64))
    starts = np.arange(users + 1, dtype=np.int64) * CANDIDATES
    return histories, Candidates(item, category, starts), histories.newest_ms() + LATER_MS


def check_scores(version: str, found: Floats, stored: Floats) -> None:
    """Raise ArtifactError where golden scores (C,) are not those that were saved, or are no scores."""
    if not np.isfinite(found).all():
        raise ArtifactError(f"ranker {version} gives scores that are not finite: train it again")
    difference = np.abs(found - stored).max(initial=0) if found.shape == stored.shape else np.inf
    if not difference <= TOLERANCE * max(1.0, float(np.abs(stored).max(initial=0))):
        raise ArtifactError(
            f"ranker {version} gives golden users other scores than when it was saved (by {difference:.1e}, "
            f"allowed {TOLERANCE:.0e}): this machine or version computes something else"
        )
