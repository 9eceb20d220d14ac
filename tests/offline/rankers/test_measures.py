"""The figures of rankers, on lists whose figures are known."""

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import log_loss, roc_auc_score

from offline.rankers.calibration import BINS, calibration_error, observed_over_expected
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


def test_calibration_is_that_of_loops_over_bins_and_of_scikit_learn() -> None:
    random = np.random.default_rng(2)
    probability = np.append(random.random(500), [0.0, 1.0])
    label = (random.random(502) < probability**2).astype(float)
    weight = random.random(502)
    total = 0.0
    for number in range(BINS):
        low, high = number / BINS, (number + 1) / BINS
        some = [n for n, p in enumerate(probability) if low <= p < high or (p == high == 1)]
        mass = sum(weight[n] for n in some)
        observed = sum(weight[n] * label[n] for n in some) / mass
        total += mass * abs(observed - sum(weight[n] * probability[n] for n in some) / mass)
    assert calibration_error(probability, label, weight) == pytest.approx(total / sum(weight), abs=1e-12)
    expected = sum(w * p for w, p in zip(weight, probability, strict=True))
    observed = sum(w * y for w, y in zip(weight, label, strict=True))
    assert observed_over_expected(probability, label, weight) == pytest.approx(observed / expected)
    shares, means = calibration_curve(label, probability, n_bins=BINS)
    counts = np.histogram(probability, BINS, (0, 1))[0]
    theirs = np.average(np.abs(shares - means), weights=counts)
    assert calibration_error(probability, label, np.ones(502)) == pytest.approx(theirs, abs=1e-12)


def test_probabilities_that_are_right_have_no_error_and_halved_ones_are_told() -> None:
    label = np.tile([1.0, 0.0, 0.0, 0.0], 50)
    one = np.ones(200)
    found = quality_of(Scored(one * np.log(1 / 3), label, one, one.astype(int), one.astype(int)))
    assert found.calibration_error == pytest.approx(0, abs=1e-9)
    assert found.observed_over_expected == pytest.approx(1)
    found = quality_of(Scored(one * np.log(1 / 7), label, one, one.astype(int), one.astype(int)))
    assert (found.calibration_error, found.observed_over_expected) == pytest.approx((0.125, 2.0))
