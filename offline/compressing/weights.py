"""Dual towers' weights -> fewer bytes: tables as int8 with a scale for each row, small weights as zeros."""

from dataclasses import replace

import numpy as np

from models.arrays import Floats
from models.ids.vocabulary_file import FIRST_KNOWN
from models.quantised import quantised
from models.towers.weights import BYTE_TABLES, ENTERING, SCALE, TowerWeights
from models.zeros import Array

ITEM, CATEGORY = "items.item.weight", "items.category.weight"


def compressed(weights: TowerWeights, int8: bool, share: float) -> TowerWeights:
    """Return the weights of towers with this share of each matrix's smallest set to zero, tables as int8.

    As bytes, an item's row and its category's become one, as their sum is all that encoding reads. Small
    matrices, such as that of behaviours, stay as they are, and so does the gate.
    """
    arrays = dict(weights.arrays)
    if int8:
        item = arrays[ITEM]
        of_category = arrays[CATEGORY][weights.item_categories[FIRST_KNOWN:]]
        arrays |= {ITEM: item[:FIRST_KNOWN], ENTERING: item[FIRST_KNOWN:] + of_category}
    if share:
        arrays |= {name: pruned(array, share) for name, array in arrays.items() if _is_large(name, array)}
    if int8:
        for name in BYTE_TABLES:
            arrays[name], arrays[name + SCALE] = quantised(arrays[name])
    return replace(weights, arrays=arrays)


def pruned(matrix: Floats, share: float) -> Floats:
    """Return a matrix whose smallest weights, this share of all, are zero; of equal ones all or none."""
    count = int(share * matrix.size)
    if not count:
        return matrix
    sizes = np.abs(matrix)
    largest = np.partition(sizes, count - 1, axis=None)[count - 1]
    return np.where(sizes <= largest, np.float32(0), matrix)


def _is_large(name: str, array: Array) -> bool:
    """Return whether it is a table of items or categories, or a matrix of the Transformers."""
    if array.ndim != 2:
        return False
    return ".layers." in name or (name.startswith("items.") and len(array) > FIRST_KNOWN)
