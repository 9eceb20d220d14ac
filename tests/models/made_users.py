"""Made-up items, and users with histories of them, for the suites that hold for every model."""

from collections.abc import Sequence

import numpy as np

from models.ids.vocabulary import Vocabulary
from models.windows.histories import Histories

ITEMS, CATEGORIES = 40, 6
VOCABULARY = Vocabulary(
    [f"i{place}" for place in range(ITEMS)],
    [2 + place % CATEGORIES for place in range(ITEMS)],
    [f"c{place}" for place in range(CATEGORIES)],
)


def made_histories(lengths: Sequence[int], seed: int = 0) -> Histories:
    """Return users with so many events each, some of unknown items and categories, in several sessions."""
    random = np.random.default_rng(seed)
    events = sum(lengths)
    item = random.integers(1, VOCABULARY.item_count, events)  # unknown ones too
    category = VOCABULARY.categories_of(item, random.integers(1, CATEGORIES + 2, events))
    pauses_ms = random.choice([0, 1_000, 300_000, 4_000_000], events)
    starts = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
    behaviour = random.integers(1, 5, events).astype(np.uint8)
    return Histories(item, category, behaviour, np.cumsum(pauses_ms), starts)
