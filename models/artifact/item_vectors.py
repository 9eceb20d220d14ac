"""An artifact's item vectors alone, as a ranker needs them; needs no torch."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import safetensors.numpy

from models.arrays import Floats
from models.artifact.files import (
    CHECKSUMS,
    ITEM_VECTORS,
    VOCABULARY,
    check,
    parse,
    read_json,
    version_of,
)
from models.artifact.stores import find
from models.ids.vocabulary_file import FIRST_KNOWN, read_vocabulary_file
from models.item_table import ItemTable
from models.location import Location


@dataclass(frozen=True)
class ItemVectors:
    """The known items of one version: vectors (I, D) in the order of item_ids, the most frequent first.

    categories (I,): each item's category id, empty where it has none.
    """

    version: str
    item_ids: list[str]
    categories: npt.NDArray[np.object_]
    vectors: Floats

    @cached_property
    def row_of(self) -> dict[str, int]:
        """Item id -> row."""
        return {item_id: row for row, item_id in enumerate(self.item_ids)}


def load_item_vectors(where: Location) -> ItemVectors:
    """Return the item vectors of an artifact, or of a store's current one. Raises ArtifactError."""
    directory = find(where).directory
    checksums = read_json(directory / CHECKSUMS)
    for name in (VOCABULARY, ITEM_VECTORS):
        check(directory / name, checksums)
    vocabulary = parse(
        directory / VOCABULARY, lambda: read_vocabulary_file((directory / VOCABULARY).read_bytes())
    )
    vectors = parse(
        directory / ITEM_VECTORS,
        lambda: ItemTable(safetensors.numpy.load_file(directory / ITEM_VECTORS)).read(),
    )
    names = np.array([*[""] * FIRST_KNOWN, *vocabulary.category_ids], dtype=object)
    return ItemVectors(
        version=version_of(checksums),
        item_ids=vocabulary.item_ids,
        categories=names[vocabulary.item_categories],
        vectors=vectors,
    )
