"""How the items with the greatest scores are found: exactly, by one product with all, or approximately.

Needs neither torch nor Faust. `AnnIndex` (the `ann` extra) searches the nearest lists alone, for millions of
items.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from models.arrays import Floats, Ints
from models.errors import TwintideError


class Index(Protocol):
    """Finds the rows with the greatest scores."""

    def search(self, vector: Floats, k: int) -> tuple[Ints, Floats]:
        """Return the rows (at most k) and their scores, the greatest first, of a user vector (D,)."""


class ExactIndex:
    """Scores every item."""

    def __init__(self, vectors: Floats) -> None:
        self._vectors = vectors

    def search(self, vector: Floats, k: int) -> tuple[Ints, Floats]:
        """Return the rows of the k greatest scores."""
        return best(self._vectors @ vector, k)


class AnnIndex:
    """Scores the items of the lists whose centres score highest (faiss IVF, inner product).

    It is built in seconds where a graph (HNSW) takes minutes, and a new model needs a new one.
    """

    def __init__(self, vectors: Floats, probed_share: float = 0.125) -> None:
        try:
            import faiss
        except ImportError as error:
            raise TwintideError("approximate search needs faiss: pip install 'twintide[ann]'") from error
        items, dimension = vectors.shape
        lists = max(1, min(int(4 * items**0.5), items // 39))  # faiss wants 39 items to learn a list from
        self._index: Any = faiss.IndexIVFFlat(
            faiss.IndexFlatIP(dimension), dimension, lists, faiss.METRIC_INNER_PRODUCT
        )
        sample = np.random.default_rng(0).permutation(items)[: 64 * lists]
        self._index.train(vectors[sample])
        self._index.add(vectors)
        self._index.nprobe = max(1, round(lists * probed_share))

    def search(self, vector: Floats, k: int) -> tuple[Ints, Floats]:
        """Return the rows of the k greatest scores found, fewer where the lists hold fewer."""
        scores, rows = self._index.search(vector[None], k)
        is_found = rows[0] >= 0
        return rows[0][is_found], scores[0][is_found]


def best(scores: Floats, k: int) -> tuple[Ints, Floats]:
    """Return the places and values of the k greatest scores, the greatest first."""
    k = min(k, len(scores))
    places = np.argpartition(-scores, k - 1)[:k] if 0 < k < len(scores) else np.arange(len(scores))
    places = places[np.argsort(-scores[places], kind="stable")][:k]
    return places, scores[places]


def search_recall(found: Sequence[Ints], exact: Sequence[Ints]) -> float:
    """Return the share of the exact rows that were found, over all users."""
    shared = sum(len(np.intersect1d(some, true)) for some, true in zip(found, exact, strict=True))
    return shared / sum(map(len, exact))
