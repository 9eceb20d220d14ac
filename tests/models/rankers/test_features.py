"""Features are what loops over events say, of the events that are read alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.ids.vocabulary_file import UNKNOWN
from models.rankers.features import (
    CANDIDATE_FEATURES,
    ITEM_FEATURES,
    USER_FEATURES,
    FeatureRows,
    feature_rows,
    features_of_spans,
)
from models.rankers.layers import LEAST_SPREAD, Features, FeatureScale
from models.rankers.settings import RankerSettings
from models.windows.histories import Histories
from tests import slow_features
from tests.models.made_users import CATEGORIES, ITEMS, VOCABULARY, made_histories

SETTINGS = RankerSettings(features=True, utc_offset_h=-3.5, max_events=20)
HOUR_MS, DAY_MS = 3_600_000, 86_400_000
#: 11 November 2026, a Wednesday, 18:00.
NOW_MS = 1_794_420_000_000


def _made(lengths: tuple[int, ...] = (0, 1, 2, 20, 33), seed: int = 0) -> Histories:
    found = made_histories(lengths, seed)
    return replace(found, time_ms=found.time_ms + NOW_MS - 40 * HOUR_MS)


def _rows(histories: Histories, settings: RankerSettings = SETTINGS, later_ms: int = 0) -> FeatureRows:
    """Return the features of every item, at the newest event of each user and so long after."""
    item = np.tile(np.arange(1, ITEMS + 2), (len(histories), 1))
    category = VOCABULARY.categories_of(item, np.full(item.shape, 2))
    now_ms = histories.newest_ms() + later_ms
    return feature_rows(histories, now_ms, item, category, settings)


def _one(rows: FeatureRows, name: str, item: int = 2) -> float:
    """Return a feature of the first user, or of it and an item."""
    if name in USER_FEATURES:
        return float(rows.user[0, USER_FEATURES.index(name)])
    return float(rows.candidate[0, item - 1, CANDIDATE_FEATURES.index(name)])


def _history(*events: tuple[int, int, int]) -> Histories:
    """Return a user by (item, behaviour, ms before NOW_MS); categories are those of VOCABULARY."""
    item, behaviour, before_ms = (np.array(column) for column in zip(*events, strict=True))
    category = np.where(item >= 2, (item - 2) % CATEGORIES + 2, UNKNOWN)
    return Histories(item, category, behaviour.astype(np.uint8), NOW_MS - before_ms, np.array([0, len(item)]))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("later_ms", [-5_000, 0, 90_000, 3 * DAY_MS])
def test_features_are_what_loops_say(seed: int, later_ms: int) -> None:
    histories = _made(seed=seed)
    rows, now_ms = _rows(histories, later_ms=later_ms), histories.newest_ms() + later_ms
    for user in range(len(histories)):
        columns = histories.item, histories.category, histories.behaviour, histories.time_ms
        own = slice(histories.starts[user], histories.starts[user + 1])
        events = list(zip(*(column[own].tolist() for column in columns), strict=True))[-SETTINGS.max_events :]
        settings = SETTINGS.gap_ms, SETTINGS.utc_offset_h
        expected = slow_features.user_features(events, int(now_ms[user]), *settings)
        np.testing.assert_allclose(rows.user[user], expected, atol=1e-6)
        for item in range(1, ITEMS + 2):
            category = 2 if item == UNKNOWN else int(VOCABULARY.item_categories[item - 2])
            expected = slow_features.candidate_features(events, int(now_ms[user]), (item, category))
            np.testing.assert_allclose(rows.candidate[user, item - 1], expected, atol=1e-6)


def test_what_a_user_had_of_a_candidate_is_told() -> None:
    history = _history((2, 1, 2 * DAY_MS), (2, 1, HOUR_MS), (8, 3, 1_000), (3, 4, 500))
    rows = _rows(history, later_ms=500)
    assert _one(rows, "item_views") == pytest.approx(np.log(3))
    assert _one(rows, "item_view") == pytest.approx(slow_features.nearness(HOUR_MS))
    assert _one(rows, "item_wishes") == _one(rows, "item_buys") == 0
    assert _one(rows, "category_wishes") == pytest.approx(np.log(2))  # item 8 is of the same category
    assert _one(rows, "category_share") == pytest.approx(3 / 4)
    assert _one(rows, "category_rate") == pytest.approx(1 / 3)
    assert _one(rows, "category_rate", item=3) == 1
    assert not rows.candidate[0, 4].any()  # nothing of item 5 or its category


def test_the_clock_is_of_the_place() -> None:
    history = _history((2, 1, 0))
    angle = 2 * np.pi * np.array([18, 2])  # Wednesday is 2
    utc = _rows(history, replace(SETTINGS, utc_offset_h=0))
    assert _one(utc, "hour_cos") == pytest.approx(np.cos(angle[0] / 24), abs=1e-6)
    assert _one(utc, "weekday_sin") == pytest.approx(np.sin(angle[1] / 7))
    there = _rows(history, replace(SETTINGS, utc_offset_h=8))
    assert _one(there, "hour_sin") == pytest.approx(np.sin(2 * np.pi * 2 / 24))
    assert _one(there, "weekday_sin") == pytest.approx(np.sin(2 * np.pi * 3 / 7))


def test_events_that_are_not_read_count_for_nothing() -> None:
    histories = _made((30,))
    settings = replace(SETTINGS, max_events=6, horizon_ms=10 * HOUR_MS)
    whole = _rows(histories, settings)
    read = np.arange(24, 30)[histories.time_ms[24:] >= histories.time_ms[-1] - 10 * HOUR_MS]
    alone = _rows(histories.select(read, np.array([0, len(read)])), settings)
    np.testing.assert_array_equal(whole.user, alone.user)
    np.testing.assert_array_equal(whole.candidate, alone.candidate)
    assert (whole.user != _rows(histories).user).any()


def test_what_is_unknown_is_nothing_that_the_user_had() -> None:
    rows = _rows(_history((UNKNOWN, 1, 10), (UNKNOWN, 4, 5)))
    assert not rows.candidate[0, 0].any()
    assert _one(rows, "buys") == pytest.approx(np.log(2))


def test_a_behaviour_that_there_is_none_of_changes_no_other_memory() -> None:
    rows = _rows(_history((2, 200, 10), (2, 0, 5)))
    assert not rows.candidate.any()
    assert not rows.user[0, 4:8].any()


def test_stretches_of_a_log_give_what_their_events_give() -> None:
    histories = _made((33,))
    item, category = np.array([[2, 3], [4, 5]]), np.array([[2, 3], [4, 5]])
    firsts, ends, now_ms = np.array([0, 5]), np.array([10, 33]), np.array([NOW_MS, NOW_MS + 7])
    small = replace(
        histories, item=histories.item.astype(np.int16), category=histories.category.astype(np.int16)
    )
    found = features_of_spans(small, firsts, ends, now_ms, item, category, SETTINGS)
    places = np.concatenate([np.arange(10), np.arange(5, 33)])
    alone = feature_rows(histories.select(places, np.array([0, 10, 38])), now_ms, item, category, SETTINGS)
    np.testing.assert_array_equal(found.user, alone.user)
    np.testing.assert_array_equal(found.candidate, alone.candidate)


def test_scale_is_of_what_it_was_fitted_to_and_a_rare_feature_does_not_count_for_more() -> None:
    random = np.random.default_rng(0)
    user = random.normal(3, 2, (500, len(USER_FEATURES))).astype(np.float32)
    candidate = np.zeros((500, 4, len(CANDIDATE_FEATURES)), np.float32)
    features = Features(torch.from_numpy(user), torch.from_numpy(candidate))
    scale = FeatureScale(len(USER_FEATURES) + len(CANDIDATE_FEATURES))
    scale.fit(features)
    found = scale(features).flatten(0, 1)
    torch.testing.assert_close(found.mean(dim=0), torch.zeros(found.shape[1]), atol=1e-4, rtol=0)
    torch.testing.assert_close(
        found[:, : user.shape[1]].std(dim=0, correction=0), torch.ones(user.shape[1]), atol=1e-4, rtol=0
    )
    rare = scale(features._replace(candidate=features.candidate + 1))[..., -1]
    torch.testing.assert_close(rare, torch.full_like(rare, 1 / LEAST_SPREAD))


def test_features_of_a_hidden_item_are_those_of_an_unknown_one() -> None:
    histories = _made((20,))
    rows = _rows(histories)
    features = Features(torch.from_numpy(rows.user), torch.from_numpy(rows.candidate))
    is_hidden = torch.zeros(1, ITEMS + 1, dtype=torch.bool)
    is_hidden[0, 5] = True
    found = features.without_items(is_hidden).candidate
    category = np.array([[VOCABULARY.item_categories[4]]])
    unknown = feature_rows(histories, histories.newest_ms(), np.array([[UNKNOWN]]), category, SETTINGS)
    np.testing.assert_array_equal(found[0, 5], unknown.candidate[0, 0])
    assert rows.candidate[0, :, :ITEM_FEATURES].any()
    others = ~is_hidden[0]
    torch.testing.assert_close(found[0, others], features.candidate[0, others])
    torch.testing.assert_close(
        features.at(torch.tensor([[7, 3]])).candidate[0], features.candidate[0, [7, 3]]
    )
