"""Similarities that can be told by hand, and a map on which near is near."""

import numpy as np
import pytest

from offline.evaluation.similarity import place_on_map, similarity

#: Two groups at right angles.
EAST, NORTH = [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]


def test_similarity_within_and_between_groups() -> None:
    vectors = np.array([EAST, EAST, NORTH, [0.0, -1.0, 0.0]], dtype=np.float32)
    found = similarity(vectors, np.array([0, 0, 1, 1]))
    assert found.within == pytest.approx(0.0)  # 1 in one group, -1 in the other
    assert found.between == 0.0
    found = similarity(vectors, np.array([0, 1, 2, 3]))
    assert np.isnan(found.within)
    assert found.between == pytest.approx((1 - 1) / 6)


def test_groups_are_apart_on_the_map() -> None:
    random = np.random.default_rng(0)
    vectors = np.repeat([EAST, NORTH], 20, axis=0) + random.normal(0, 0.05, (40, 3))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    places = place_on_map(vectors.astype(np.float32))
    middles = places.reshape(2, 20, 2).mean(axis=1)
    spread = np.linalg.norm(places.reshape(2, 20, 2) - middles[:, None], axis=2).mean()
    assert np.linalg.norm(middles[0] - middles[1]) > 2 * spread
