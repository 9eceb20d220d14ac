"""Details of rankings whose figures can be told by hand."""

from pathlib import Path

import numpy as np
import pytest

from models.ids.log_vocabulary import vocabulary_of_log
from models.ids.vocabulary import Vocabulary
from models.log.behaviour_log import BehaviourLog, Column, read_behaviour_log
from models.windows.histories import Histories
from models.windows.window import WindowSettings
from offline.evaluation.details import bootstrap_interval, by_group, details
from offline.ranking.protocols import Cases, cases_leave_one_out

HEADER = "user_id,item_id,behavior_type,user_geohash,item_category,time"
#: Users u1 to u4 end with i0 to i3; every history is one item, so that three of four items are not seen.
PAIRS = [("u1", "i1", "i0"), ("u2", "i2", "i1"), ("u3", "i3", "i2"), ("u4", "i0", "i3")]


@pytest.fixture
def asked(tmp_path: Path) -> tuple[Cases, Vocabulary]:
    lines = [HEADER]
    for user, first, last in PAIRS:
        lines += [
            f"{user},{item},1,,c{item[1]},2024-01-0{day}" + " 00" for day, item in ((1, first), (2, last))
        ]
    (tmp_path / "log.csv").write_text("\n".join(lines) + "\n")
    log = read_behaviour_log(tmp_path / "log.csv")
    vocabulary = vocabulary_of_log(log)
    assert vocabulary.item_ids == ["i0", "i1", "i2", "i3"]
    return cases_leave_one_out(log, vocabulary, WindowSettings()), vocabulary


def test_perfect_and_worst_rankings(asked: tuple[Cases, Vocabulary]) -> None:
    cases, vocabulary = asked
    best = details(lambda users: np.eye(4)[cases.target[users]], cases, vocabulary, exclude_seen=False)
    assert (best.interval, best.user_auc, best.pooled_auc) == ((1, 1), 1, 1)
    assert (best.by_activity[0], best.by_popularity[0]) == (1, 1)
    worst = details(lambda users: -np.eye(4)[cases.target[users]], cases, vocabulary, exclude_seen=False)
    assert (worst.user_auc, worst.pooled_auc) == (0, 0)


def test_items_that_are_not_ranked_count_in_no_auc(asked: tuple[Cases, Vocabulary]) -> None:
    """u1 saw i1, u2 i2, u3 i3 and u4 i0: left out, their targets have 2 others to stand before."""
    cases, vocabulary = asked
    scores = np.array([4.0, 3.0, 2.0, 1.0])

    def same(users: np.ndarray) -> np.ndarray:
        return np.tile(scores, (len(users), 1))

    found = details(same, cases, vocabulary, exclude_seen=True)
    # Of i0, i2, i3 the target i0 is the first; of i0, i1, i3 i1 the second; i2 the third; i3 the third.
    assert found.user_auc == pytest.approx((1 + 0.5 + 0 + 0) / 4)
    everywhere = details(
        lambda users: np.tile(scores, (len(users), 1)), cases, vocabulary, exclude_seen=False
    )
    assert everywhere.user_auc == pytest.approx((1 + 2 / 3 + 1 / 3 + 0) / 4)
    assert everywhere.pooled_auc == pytest.approx(0.5)  # targets and others are the same four scores


def test_ten_best_that_are_the_same_for_all_cover_few_items_and_categories() -> None:
    items = 30
    vocabulary = Vocabulary([str(n) for n in range(items)], [2 + n // 20 for n in range(items)], ["a", "b"])
    cases = _cases_of(items)
    same = details(
        lambda users: np.tile(-np.arange(items, dtype=float), (len(users), 1)), cases, vocabulary,
        exclude_seen=False,
    )  # fmt: skip
    assert same.coverage == pytest.approx(10 / items)
    assert (same.categories, same.diversity) == (1, 0)
    assert np.isnan(same.novelty)  # the log is empty
    shifted = details(
        lambda users: np.stack([np.roll(-np.arange(items, dtype=float), 15 * u) for u in users]), cases,
        vocabulary, exclude_seen=False,
    )  # fmt: skip
    assert shifted.coverage == pytest.approx(20 / items)
    assert shifted.categories == 1.5
    assert shifted.diversity == pytest.approx((0 + 5 * 5 / 45) / 2)


def _cases_of(items: int) -> Cases:
    """Return two users without targets that are known, over a log of nothing."""
    empty = Column(np.zeros(0, np.int32), np.array([], dtype=object))
    none = np.zeros(0, np.int64)
    log = BehaviourLog(
        path="log.csv", fingerprint="", precision_ms=1, user=empty, item=empty, category=empty,
        geohash=empty, behaviour=np.zeros(0, np.uint8), time_ms=none, line=none,
    )  # fmt: skip
    past = Histories(none, none, np.zeros(0, np.uint8), none, np.zeros(3, np.int64))
    return Cases(["a", "b"], past, np.array([0, items - 1]), log, past, np.arange(2), 0)


def test_groups_are_thirds_and_ties_stay_together() -> None:
    gains = np.array([1.0, 0.0, 0.5, 0.5, 0.0, 1.0])
    assert by_group(gains, np.array([1, 1, 2, 2, 3, 3])) == (0.5, 0.5, 0.5)
    assert by_group(gains, np.array([6, 5, 4, 3, 2, 1])) == (0.5, 0.5, 0.5)
    few, some, many = by_group(gains, np.ones(6))
    assert few == 0.5 and np.isnan([some, many]).all()


def test_interval_is_that_of_the_normal_approximation_where_users_are_many() -> None:
    gains = np.random.default_rng(1).random(2_000)
    low, high = bootstrap_interval(gains, np.random.default_rng(2))
    half = 1.96 * gains.std() / np.sqrt(len(gains))
    assert low == pytest.approx(gains.mean() - half, abs=half / 5)
    assert high == pytest.approx(gains.mean() + half, abs=half / 5)
