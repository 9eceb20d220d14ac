"""Metrics of ranks that are known."""

import math

import numpy as np
import pytest

from offline.ranking.metrics import MISSING, ranks, summarise


def test_rank_counts_items_that_score_as_high() -> None:
    scores = np.array([[0.1, 0.9, 0.5], [0.5, 0.5, 0.5], [3, 2, 1]], dtype=np.float32)
    assert ranks(scores, np.array([2, 0, 0])).tolist() == [2, 3, 1]


def test_target_outside_the_catalogue_is_missing_even_when_all_else_is_worse() -> None:
    assert ranks(np.array([[1.0, 2.0]], dtype=np.float32), np.array([-1])).tolist() == [MISSING]


def test_metrics_of_known_ranks() -> None:
    found = summarise(np.array([1, 3, 11, 20, MISSING]))
    assert found.recall_at_10 == pytest.approx(2 / 5)
    assert found.recall_at_20 == pytest.approx(4 / 5)
    assert found.ndcg_at_10 == pytest.approx((1 + 1 / math.log2(4)) / 5)
    assert found.mrr_at_10 == pytest.approx((1 + 1 / 3) / 5)
    assert found.mrr == pytest.approx((1 + 1 / 3 + 1 / 11 + 1 / 20) / 5)


def test_what_is_no_number_is_never_a_hit() -> None:
    nan = float("nan")
    scores = np.array([[nan, 0.9, 0.5], [nan, nan, nan], [0.1, nan, 0.5]], dtype=np.float32)
    found = ranks(scores, np.array([0, 1, 2]))
    assert found.tolist() == [3, 3, 2]
    assert summarise(found).ndcg < summarise(np.array([1, 1, 1])).ndcg
