"""What a walk ranks by: many ways to weigh popularity at once, as one by one; ages."""

import numpy as np
import pytest

from models.durations import text_of_ms
from models.errors import SettingsError
from offline.ranking.metrics import MISSING
from offline.stream_walk.ranking import rank, weighed_ranks
from offline.stream_walk.report import parse_ages


def test_every_way_ranks_as_its_weighed_sum() -> None:
    random = np.random.default_rng(0)
    base, logs, is_ranked = random.normal(size=50), random.normal(size=(50, 3)), random.random(50) < 0.8
    ways = np.array([[0, 0.5, 2, 0.25], [1, 1.0, 1, 0.0]])
    for target in range(50):
        found = np.empty(2, np.int64)
        weighed_ranks(base, logs, is_ranked, target, ways, found)
        sums = [base + 0.5 * logs[:, 0] + 0.25 * logs[:, 2], base + logs[:, 1]]
        assert found.tolist() == [rank(each, is_ranked, target) for each in sums]
        assert (found[0] == MISSING) == (not is_ranked[target])


def test_what_is_no_number_is_never_ahead() -> None:
    base, logs, is_ranked = np.array([np.nan, 1.0, 2.0]), np.zeros((3, 1)), np.ones(3, np.bool_)
    found = np.empty(1, np.int64)
    for target, expected in enumerate((3, 3, 2)):
        weighed_ranks(base, logs, is_ranked, target, np.array([[0, 1.0, 0, 0.0]]), found)
        assert found.tolist() == [expected] == [rank(base, is_ranked, target)]


def test_ages_are_read_as_they_are_written() -> None:
    ages_ms = parse_ages("--item-lag", "1s,10m,1h,2d")
    assert [text_of_ms(each) for each in ages_ms] == ["1s", "10m", "1h", "2d"]
    with pytest.raises(SettingsError, match="--item-lag is '1x'"):
        parse_ages("--item-lag", "1x")
