"""How similar items' vectors are within a category and between categories, and a map of them."""

from dataclasses import dataclass

import numpy as np

from models.arrays import Floats, Ints
from models.artifact.artifact import Artifact
from models.errors import DataError
from models.ids.vocabulary_file import FIRST_KNOWN

#: The most items that are compared (the most frequent ones), and the seed of the map.
MAX_ITEMS, MAP_SEED = 2_000, 0


@dataclass(frozen=True, slots=True)
class Similarity:
    """Mean cosine of two different items' vectors: of one category, and of two."""

    within: float
    between: float


def items_with_category(artifact: Artifact) -> tuple[Floats, Ints]:
    """Return the unit vectors (I, D) and categories (I,) of the most frequent items that have one."""
    categories = artifact.vocabulary.item_categories - FIRST_KNOWN
    items = np.flatnonzero(categories >= 0)[:MAX_ITEMS]
    if len(np.unique(categories[items])) < 2:
        raise DataError(
            f"{artifact.path}: its items have fewer than two categories: there is nothing to compare"
        )
    vectors = artifact.item_vectors[items]
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.maximum(norms, 1e-12), categories[items]


def similarity(vectors: Floats, categories: Ints) -> Similarity:
    """Return the mean cosines of unit vectors (I, D); nan where no two items share a category."""
    cosine = vectors @ vectors.T
    is_same = categories[:, None] == categories
    is_other = ~is_same
    np.fill_diagonal(is_same, False)
    within = float(cosine[is_same].mean()) if is_same.any() else float("nan")
    return Similarity(within, float(cosine[is_other].mean()))


def place_on_map(vectors: Floats) -> Floats:
    """Return (I, 2): unit vectors that are near by cosine are near on the map. I at least 2."""
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(vectors) - 1) / 3)
    model = TSNE(perplexity=perplexity, metric="cosine", init="random", random_state=MAP_SEED)
    places: Floats = model.fit_transform(vectors)
    return places
