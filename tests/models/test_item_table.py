"""Scores by a table of item vectors are those by the vectors themselves, however it is stored."""

import numpy as np
import pytest

from models.arrays import Floats
from models.item_table import LAST, ROWS_AT_ONCE, SCALE, VECTORS, ItemTable, as_bytes

ITEMS, DIMENSION = ROWS_AT_ONCE + 37, 16


@pytest.fixture
def vectors() -> Floats:
    """Give vectors (I, D) whose last coordinate is far greater than the others, as a popularity is."""
    found = np.random.default_rng(0).normal(size=(ITEMS, DIMENSION)).astype(np.float32)
    found[:, -1] *= 50
    return found


@pytest.mark.parametrize("form", ["float32", "bytes", "bytes beside the last coordinate"])
def test_scores_are_those_of_the_vectors_that_are_read(form: str, vectors: Floats) -> None:
    table = ItemTable({VECTORS: vectors} if form == "float32" else as_bytes(vectors, form != "bytes"))
    user = np.random.default_rng(1).normal(size=DIMENSION).astype(np.float32)
    np.testing.assert_allclose(table.scores(user), table.read() @ user, rtol=1e-4, atol=1e-4)


def test_last_coordinate_that_is_not_zero_among_the_bytes_is_not_counted_twice(vectors: Floats) -> None:
    arrays = as_bytes(vectors, keeps_last=True)
    arrays[VECTORS][:, -1] = 100
    table = ItemTable({name: arrays[name] for name in (VECTORS, SCALE, LAST)})
    user = np.ones(DIMENSION, np.float32)
    np.testing.assert_allclose(table.scores(user), table.read() @ user, rtol=1e-4, atol=1e-4)
