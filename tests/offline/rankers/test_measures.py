"""The figures of rankers, on lists whose figures are known."""

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from offline.rankers.measures import Scored, auc, ndcg_at_10, quality_of


def test_auc_and_log_loss_are_those_of_scikit_learn() -> None:
    random = np.random.default_rng(0)
    label = random.integers(0, 2, 200).astype(float)
    score = np.round(label + random.normal(size=200), 1)  # with ties
    weight = random.random(200)
    found = quality_of(Scored(score, label, weight, np.arange(200) % 7, np.arange(200) % 7))
    assert found.auc == pytest.approx(roc_auc_score(label, score))
    assert found.log_loss == pytest.approx(log_loss(label, 1 / (1 + np.exp(-score)), sample_weight=weight))


def test_auc_of_users_leaves_out_who_has_one_label_and_weighs_by_candidates() -> None:
    score = np.array([2.0, 1.0, 1.0, 2.0, 3.0, 9.0])
    label = np.array([1.0, 0.0, 1.0, 0.0, 0.0, 1.0])
    user = np.array([0, 0, 1, 1, 1, 2])
    found = quality_of(Scored(score, label, np.ones(6), user, user))
    assert found.user_auc == pytest.approx((2 * 1.0 + 3 * 0.0) / 5)


def test_ties_count_against_the_positive_in_ndcg_and_half_in_auc() -> None:
    score, label = np.array([1.0, 1.0, 0.0]), np.array([1.0, 0.0, 0.0])
    assert ndcg_at_10(score, label) == pytest.approx(1 / np.log2(3))
    assert auc(score, label) == pytest.approx(0.75)


def test_ndcg_is_nothing_beyond_ten_and_one_where_all_positives_come_first() -> None:
    score = np.arange(12, 0, -1.0)
    assert ndcg_at_10(score, np.eye(12)[11]) == 0
    assert ndcg_at_10(score, (np.arange(12) < 11).astype(float)) == pytest.approx(1)


def test_what_has_no_answer_is_no_number() -> None:
    found = quality_of(
        Scored(np.ones(2), np.ones(2), np.ones(2), np.zeros(2, np.int64), np.zeros(2, np.int64))
    )
    assert np.isnan(found.auc) and np.isnan(found.user_auc) and np.isnan(found.ndcg_at_10)
