"""Popularity is that of its time, and half-lives are those by which a log was made."""

import numpy as np
import pytest
import torch

from models.arrays import Flags
from models.ids.vocabulary_file import FIRST_KNOWN
from models.log.times import HOUR_MS
from models.windows.histories import Histories
from offline.training.half_lives import half_lives_of
from offline.training.popularity import age_weights, popularity_of, present_ms
from offline.training.settings import TrainSettings

ITEMS = 50


def test_popularity_counts_what_came_before_its_period_and_half_as_much_after_each_half_life() -> None:
    item = np.array([0, 1, 1, 2, 2, 2]) + FIRST_KNOWN
    time_ms = np.array([0, 1, 1, 4, 5, 6]) * HOUR_MS
    found = popularity_of(item, time_ms, 3, 2.0)
    begins_h = found.begins_ms.numpy() / HOUR_MS
    end_h = (present_ms(time_ms, np.ones(6, np.bool_)) + 1) / HOUR_MS
    for begin_h, log_share in zip([*begins_h, end_h], found.log_share.T.numpy(), strict=True):
        counts = np.zeros(3)
        for each, time_h in zip(item - FIRST_KNOWN, np.minimum(time_ms / HOUR_MS, 5), strict=True):
            counts[each] += 2 ** ((time_h - begin_h) / 2) if time_h < begin_h else 0
        share = counts / (counts.sum() or 1)
        np.testing.assert_allclose(np.exp(log_share), 0.9 * share + 0.1 / 3, rtol=1e-4)
    asked = torch.from_numpy(np.array([-9, 0, 3, 6, 99]) * HOUR_MS)
    begins = found.begins_ms.numpy()
    assert found.period_of(asked).tolist() == [max((begins <= each).sum() - 1, 0) for each in asked.numpy()]


def test_what_never_ages_has_one_popularity() -> None:
    item, time_ms = np.repeat([2, 3], [30, 10]), np.arange(40) * HOUR_MS
    found = popularity_of(item, time_ms, 2, np.inf)
    assert found.period_of(torch.tensor([0, HOUR_MS * 39])).tolist() == [0, 0]
    np.testing.assert_allclose(
        found.log_share.T.exp(), [[0.9 * 0.75 + 0.05, 0.9 * 0.25 + 0.05]] * 2, rtol=1e-6
    )


def test_a_clock_that_is_ahead_does_not_make_all_else_old() -> None:
    time_ms = np.append(np.arange(2_000), 10**12)
    now_ms = present_ms(time_ms, np.ones(2_001, np.bool_))
    assert now_ms == np.quantile(time_ms, 0.999, method="lower") < 2_000
    weight = age_weights(time_ms, now_ms, 1.0)
    assert weight[-1] == 1
    assert weight.min() > 0.99


@pytest.mark.parametrize("lives_h", [4, 10_000])
def test_half_lives_are_found_from_how_long_items_live(lives_h: int) -> None:
    """Users who go from item to item, of which another ten are in fashion every `lives_h` hours."""
    found = half_lives_of(TrainSettings(), *made(lives_h), ITEMS)
    if lives_h == 4:
        assert found.popularity_h <= 4
        assert found.taste_h <= 64
    else:
        assert found.taste_h == np.inf
        assert found.popularity_h >= 64


def test_half_lives_that_are_set_are_kept_and_without_a_present_nothing_ages() -> None:
    set_ones = TrainSettings(half_life_h=3.0, popularity_half_life_h="for ever")
    assert half_lives_of(set_ones, *made(4), ITEMS).taste_h == 3
    assert half_lives_of(set_ones, *made(4), ITEMS).popularity_h == np.inf
    found = half_lives_of(TrainSettings(protocol="leave-one-out"), *made(4), ITEMS)
    assert found.taste_h == found.popularity_h == np.inf


def made(lives_h: int) -> tuple[Histories, Flags, Flags]:
    """Return 200 users' histories of 200 hours; what is learned, and held out: the last two hours."""
    random = np.random.default_rng(0)
    users, events = 200, 100
    hours = np.sort(random.uniform(0, 200, (users, events)), axis=1)
    fashion = (hours // lives_h).astype(np.int64) * 10
    item = (fashion + random.integers(0, 10, (users, events))) % ITEMS + FIRST_KNOWN
    histories = Histories(
        item=item.ravel(),
        category=np.ones(users * events, np.int64),
        behaviour=np.ones(users * events, np.uint8),
        time_ms=(hours.ravel() * HOUR_MS).astype(np.int64),
        starts=np.arange(users + 1) * events,
    )
    held_out = hours.ravel() >= 198
    return histories, ~held_out, held_out
