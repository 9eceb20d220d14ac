"""Yes and no by scores, as scikit-learn counts them, at the threshold that is right most often."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, precision_recall_fscore_support

from offline.encoders.classification import best_threshold, classify


@pytest.mark.parametrize("seed", range(5))
def test_shares_are_scikit_learns_and_no_threshold_is_right_more_often(seed: int) -> None:
    random = np.random.default_rng(seed)
    positive = random.normal(0.5, 1, 40).round(1).astype(np.float32)  # with ties
    positive[:3] = -np.inf  # items that the model does not know
    negative = random.normal(0, 1, 40).round(1).astype(np.float32)
    threshold = best_threshold(positive, negative)
    found = classify(positive, negative, threshold)
    truth = np.repeat([1, 0], 40)
    said = np.concatenate([positive, negative]) >= threshold
    precision, recall, f1, _ = precision_recall_fscore_support(truth, said, average="binary")
    assert (found.precision, found.recall, found.f1) == pytest.approx((precision, recall, f1))
    assert found.accuracy == pytest.approx(accuracy_score(truth, said))
    every = [classify(positive, negative, float(each)).accuracy for each in [*positive, *negative, np.inf]]
    assert found.accuracy >= max(every[:-1]) and found.accuracy >= 0.5


def test_scores_that_say_nothing_get_a_yes_and_no_hit_is_no_division_by_nothing() -> None:
    same = np.zeros(4, np.float32)
    found = classify(same, same, best_threshold(same, same))
    assert (found.accuracy, found.precision, found.recall) == (0.5, 0.5, 1.0)
    none = classify(same, same, 1.0)
    assert (none.precision, none.recall, none.f1) == (0.0, 0.0, 0.0)
