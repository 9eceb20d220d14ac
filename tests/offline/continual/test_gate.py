"""The gate lets good models through, and none that is worse, broken or forgetful."""

from dataclasses import replace

import numpy as np
import pytest

from models.arrays import Doubles, Flags, Ints
from models.errors import DataError
from models.ids.vocabulary import Vocabulary
from offline.continual.gate import defect_of, lost_items, verdict_of
from offline.continual.held_back import AHEAD_MS, parts_of, without_future
from offline.training.continuing import Learned
from tests.offline.continual.making import learned, log_of

USERS = np.repeat(np.arange(100), 5)


def gains(mean: float, seed: int) -> Doubles:
    return np.random.default_rng(seed).uniform(0, 2 * mean, 500)


@pytest.mark.parametrize("seed", range(20))
def test_model_that_ranks_at_random_is_refused_and_a_better_one_is_not(seed: int) -> None:
    before = gains(0.4, seed)
    assert not verdict_of(gains(0.1, seed + 100), before, USERS).accepted
    assert verdict_of(before + 0.01, before, USERS).accepted
    assert verdict_of(before, before, USERS).accepted


def test_noise_does_not_hide_a_loss_of_more_than_a_twentieth() -> None:
    before = np.array([0.0, 1.0] * 5)
    after = np.array([1.0, 0.0, *[0.0, 1.0] * 3, 0.0, 0.0])
    verdict = verdict_of(after, before, np.arange(10))
    assert 2 * verdict.error > 0.1 > verdict.tolerance == pytest.approx(0.05 * 0.5)
    assert "it ranks worse: ndcg 0.5000 -> 0.4000" in verdict.reason


def test_events_of_one_user_count_as_one_when_the_error_is_estimated() -> None:
    before: Doubles = np.zeros(500)
    after: Doubles = np.repeat(np.random.default_rng(1).normal(size=100), 5)
    alone: Ints = np.arange(500)
    ratio = verdict_of(after, before, USERS).error / verdict_of(after, before, alone).error
    assert ratio == pytest.approx(5**0.5, rel=1e-6)


def test_vectors_that_are_not_finite_or_all_the_same_are_refused() -> None:
    good = learned(["a", "b", "c"])
    assert not defect_of(good)
    broken = learned(["a", "b", "c"])
    next(iter(broken.towers.parameters())).data.fill_(float("nan"))
    assert "not finite" in defect_of(broken)


def test_item_that_is_lost_is_noticed_unless_there_is_no_room() -> None:
    before, after = learned(["a", "b", "c"]), learned(["a", "x", "c"])
    assert lost_items(before, after, 10) == "it has lost 1 items, 'b' among them"
    assert not lost_items(before, after, 3)
    more: Learned = replace(after, vocabulary=Vocabulary(["c", "b", "a", "x"], [1, 1, 1, 1], ["k"]))
    assert not lost_items(before, more, 10)


def test_newest_rows_are_held_back_and_rows_of_one_time_stay_together() -> None:
    log = log_of([1, 2, 3, 4, 5, 6, 7, 8, 8, 8])
    parts = parts_of(log, log.time_ms > 2, min_held_back=2)
    assert parts is not None
    assert log.time_ms[parts.held_back].tolist() == [8, 8, 8]
    assert log.time_ms[parts.learned].tolist() == [3, 4, 5, 6, 7]
    assert parts_of(log, log.time_ms > 2, min_held_back=5) is None
    assert parts_of(log, log.time_ms > 7, min_held_back=1) is None  # nothing would be left to learn
    assert parts_of(log, log.time_ms > 8, min_held_back=1) is None
    behind: Flags = np.arange(10) % 2 > 0  # the others, of a partition further ahead, are learned already
    parts = parts_of(log, behind, min_held_back=2)
    assert parts is not None
    assert log.time_ms[parts.held_back].tolist() == [8, 8]


def test_row_of_the_far_future_is_left_out() -> None:
    log = log_of([1, 2, AHEAD_MS + 3, AHEAD_MS + 4])
    assert without_future(log, now_ms=3).time_ms.tolist() == [1, 2, AHEAD_MS + 3]


def test_clock_that_is_behind_all_rows_is_said() -> None:
    with pytest.raises(DataError, match="all of its 2 rows are over an hour ahead of this host's clock"):
        without_future(log_of([AHEAD_MS + 3, AHEAD_MS + 4]), now_ms=2)
