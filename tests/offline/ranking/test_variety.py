"""How varied lists are, against loops from the definitions."""

import math

import numpy as np
import pytest

from offline.ranking.variety import best_places, coverage, diversity, novelty


def test_figures_are_those_of_loops() -> None:
    random = np.random.default_rng(1)
    lists = np.stack([random.permutation(40)[:7] for _ in range(9)])
    categories, counts = random.integers(1, 6, 40), random.integers(0, 9, 40)
    assert coverage(lists, 40) == len({*lists.ravel().tolist()}) / 40
    different, told = [], []
    for row in lists.tolist():
        pairs = [(one, other) for at, one in enumerate(row) for other in row[at + 1 :]]
        different.append(sum(categories[one] != categories[other] for one, other in pairs) / len(pairs))
        told += [-math.log2(max(int(counts[item]), 1) / int(counts.sum())) for item in row]
    assert diversity(lists, categories) == pytest.approx(sum(different) / len(different), abs=1e-12)
    assert novelty(lists, counts) == pytest.approx(sum(told) / len(told), abs=1e-12)


def test_what_cannot_be_told_is_no_number() -> None:
    lists, one = np.array([[0, 1], [1, 2]]), np.array([2, 2, 2])
    assert np.isnan(diversity(lists, one))
    assert np.isnan(diversity(lists, np.array([0, 1, 1])))  # padding and unknown are no two categories
    assert np.isnan(diversity(lists[:, :1], np.array([2, 3, 2])))
    assert np.isnan(novelty(lists, np.zeros(3)))


def test_the_best_are_listed_also_where_there_are_fewer_than_ten() -> None:
    scores = np.array([[0.1, 0.9, 0.5], [3.0, 1.0, 2.0]])
    assert {*best_places(scores, 2)[0].tolist()} == {1, 2}
    assert sorted(best_places(scores)[1].tolist()) == [0, 1, 2]
