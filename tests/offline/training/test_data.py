"""Slices never mix, and every wanted event is asked for once, with all it may know and nothing more."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from models.arrays import Flags
from models.artifact.settings import ArtifactSettings
from models.errors import DataError
from models.ids.log_vocabulary import vocabulary_of_log
from models.ids.vocabulary_file import FIRST_KNOWN
from models.log.behaviour_log import BehaviourLog, read_behaviour_log
from models.towers.histories import FeatureSettings, event_features
from models.windows.histories import Histories
from models.windows.log_histories import EVERYTHING, histories_of_log
from offline.ranking.protocols import LEAST_ROWS, Cases, are_last, cases_by_time, cases_leave_one_out
from offline.training.data import (
    Stretches,
    collate,
    cut_stretches,
    end_at_pauses,
    return_share,
    shuffled,
    slice_log,
)
from offline.training.pieces import stretches_of
from offline.training.settings import TrainSettings


@pytest.fixture(scope="module")
def walk(walk_csv: Path) -> BehaviourLog:
    return read_behaviour_log(walk_csv)


def test_time_slices_follow_each_other_and_hold_every_row(walk: BehaviourLog) -> None:
    slices = slice_log(walk, TrainSettings())
    assert (slices.train.astype(int) + slices.validation + slices.test == 1).all()
    assert walk.time_ms[slices.train].max() < walk.time_ms[slices.validation].min()
    assert walk.time_ms[slices.validation].max() < walk.time_ms[slices.test].min() == slices.cutoff_ms
    assert slices.test.mean() == pytest.approx(0.1, abs=0.02)


def test_leave_one_out_holds_out_the_last_two_of_users_with_three(walk: BehaviourLog) -> None:
    slices = slice_log(walk, TrainSettings(protocol="leave-one-out"))
    users = walk.user.strings()
    assert slices.test.sum() == slices.validation.sum() == 60
    for user in set(users[slices.test]):
        rows = users == user
        latest = sorted(walk.time_ms[rows])[-2:]
        assert walk.time_ms[rows & slices.test].item() == latest[1]
        assert walk.time_ms[rows & slices.validation].item() == latest[0]
    assert slices.train[users == "late#1"].all()
    assert (are_last(walk, LEAST_ROWS) == slices.test).all()  # who asks the others asks what was learned
    assert users[are_last(walk) & ~slices.test].tolist() == ["late#1"]


def test_log_of_one_time_cannot_be_split(walk: BehaviourLog) -> None:
    with pytest.raises(DataError, match="too few"):
        slice_log(walk.select(walk.time_ms == walk.time_ms[0]), TrainSettings())


def histories_of(counts: list[int]) -> Histories:
    total = sum(counts)
    return Histories(
        item=np.arange(total) + FIRST_KNOWN,
        category=np.full(total, 2),
        behaviour=(np.arange(total) % 4 + 1).astype(np.uint8),
        time_ms=np.concatenate([np.arange(count) * 60_000 for count in counts]).astype(np.int64),
        starts=np.concatenate(([0], np.cumsum(counts))),
    )


def returns(items: list[list[int]], wanted: list[bool]) -> float:
    """Return the share of returns in histories of these items, of which 10 are known."""
    whole = replace(histories_of([len(each) for each in items]), item=np.concatenate(items) + FIRST_KNOWN)
    derived = event_features(whole, FeatureSettings())
    return return_share(cut_stretches(whole, derived, np.array(wanted, np.float32), 100), 10)


def test_returns_are_counted_beside_chance() -> None:
    items, every = [[4, 3, 4, 3], [3, 4, 5]], [True] * 7
    rate, chance = 2 / 7, (0 + 1 + 2 + 2 + 0 + 1 + 2) / 7 / 10
    assert returns(items, every) == pytest.approx(rate / (rate + chance))
    rate, chance = 2 / 4, (0 + 1 + 2 + 2) / 4 / 10
    assert returns(items, [True] * 4 + [False] * 3) == pytest.approx(rate / (rate + chance))
    assert returns([[4, 3, 2], [4, 3]], every[:5]) == 0
    assert returns([[], [4, 4, 4, 4]], every[:4]) > 0.9


@pytest.mark.parametrize("wanted_share", [1.0, 0.3])
def test_every_wanted_event_is_asked_once_and_read_only_from_before(wanted_share: float) -> None:
    whole = histories_of([1, 2, 100, 101, 0, 350])
    wanted = np.random.default_rng(0).random(554) < wanted_share
    weight = np.where(wanted, np.arange(1, 555, dtype=np.float32), np.float32(0))
    stretches = cut_stretches(whole, event_features(whole, FeatureSettings()), weight, 100)
    stretch = collate(stretches, np.arange(len(stretches)))
    assert stretch.tokens.item.shape[1] <= 200
    asked = stretch.target[stretch.target > 0].tolist()
    opening = set(whole.starts[:-1][np.diff(whole.starts) > 0] + FIRST_KNOWN)
    assert sorted(asked) == sorted(set((np.flatnonzero(wanted) + FIRST_KNOWN).tolist()) - opening)
    rows, places = np.nonzero(stretch.target.numpy())
    np.testing.assert_array_equal(
        stretch.tokens.item.numpy()[rows, places] + 1, stretch.target.numpy()[rows, places]
    )
    assert (stretch.boundary.numpy()[rows, places] <= places).all()
    event = stretch.target.numpy()[rows, places] - FIRST_KNOWN
    np.testing.assert_array_equal(stretch.target_weight.numpy()[rows, places], weight[event])
    np.testing.assert_array_equal(stretch.target_ms.numpy()[rows, places], whole.time_ms[event])
    np.testing.assert_array_equal(stretch.opening_weight, weight[stretch.opening.numpy() - FIRST_KNOWN])


def test_piece_is_read_as_rarely_as_its_heaviest_target_weighs_and_counts_the_more() -> None:
    whole = histories_of([2] * 2_000)
    heaviest = np.repeat(np.array([0.1, 0.5], np.float32), 1_000)
    weight = np.stack([np.zeros(2_000, np.float32), heaviest], axis=1).ravel()
    stretches = cut_stretches(whole, event_features(whole, FeatureSettings()), weight, 100)
    np.testing.assert_array_equal(stretches.share, heaviest)
    assert stretches.share.dtype == np.float32  # as all that a step sums over processes
    read = np.concatenate(list(shuffled(stretches, 8, np.random.default_rng(0))))
    assert len(read) == len(set(read.tolist()))
    assert len(read) == pytest.approx(600, abs=1)
    assert (read < 1_000).sum() == pytest.approx(100, rel=0.2)
    stretch = collate(stretches, read)
    np.testing.assert_array_equal(stretch.target_weight.numpy()[stretch.target.numpy() > 0], 1)


def test_pause_longer_than_the_horizon_ends_a_history() -> None:
    whole = histories_of([4])
    whole.time_ms[2:] += 10_000_000
    whole = end_at_pauses(whole, 9_000_000)
    assert whole.starts.tolist() == [0, 2, 4]
    stretches = cut_stretches(whole, event_features(whole, FeatureSettings()), np.ones(4, np.float32), 100)
    assert sorted(collate(stretches, np.arange(len(stretches))).opening.tolist()) == [2, 4]


def held_out_rows_read(stretches: Stretches, is_later: Flags) -> int:
    """Return how many events of later slices (E,) are read, or asked for, by pieces of an earlier one."""
    read = np.concatenate([np.arange(*piece) for piece in zip(stretches.first, stretches.last, strict=True)])
    return int(is_later[read].sum() + (is_later & (stretches.weight > 0)).sum())


@pytest.mark.parametrize("protocol", ["time", "leave-one-out"])
def test_training_reads_no_row_that_is_held_out_and_a_planted_one_is_caught(
    walk: BehaviourLog, protocol: Literal["time", "leave-one-out"]
) -> None:
    slices = slice_log(walk, TrainSettings(protocol=protocol))
    vocabulary, settings = vocabulary_of_log(walk.select(slices.train)), ArtifactSettings()
    pieces, _ = stretches_of(walk, slices, vocabulary, settings, TrainSettings(protocol=protocol))
    order = walk.by_user()
    later = {"train": slices.validation | slices.test, "validation": slices.test}
    for name, is_later in later.items():
        assert held_out_rows_read(pieces[name], is_later[order]) == 0
        planted = replace(pieces[name], last=pieces[name].last + 2)  # the last target, and what follows it
        assert held_out_rows_read(planted, is_later[order]) > 0


def targets_read(cases: Cases) -> list[str]:
    """Return the users whose target stands in what the model reads of them; targets are unique items here."""
    starts = cases.histories.starts
    return [
        user_id
        for user, user_id in enumerate(cases.user_ids)
        if cases.target[user] + FIRST_KNOWN in cases.histories.item[starts[user] : starts[user + 1]]
    ]


@pytest.mark.parametrize("protocol", ["time", "leave-one-out"])
def test_held_out_target_is_in_no_history_and_a_planted_one_is_caught(tmp_path: Path, protocol: str) -> None:
    start = datetime(2024, 1, 1, tzinfo=UTC)
    lines = ["user_id,item_id,behavior_type,user_geohash,item_category,time"]
    for user in range(5):
        for event in range(8):
            time = start + timedelta(days=event, hours=user)
            lines.append(f"u{user},item {user}-{event},1,,c,{time:%Y-%m-%d %H}")
    (tmp_path / "log.csv").write_text("\n".join(lines) + "\n")
    log = read_behaviour_log(tmp_path / "log.csv")
    vocabulary = vocabulary_of_log(log)
    window = EVERYTHING
    if protocol == "time":
        cases = cases_by_time(log, vocabulary, window, int(start.timestamp() * 1000) + 7 * 86_400_000)
    else:
        cases = cases_leave_one_out(log, vocabulary, window)
    assert [vocabulary.item_ids[item] for item in cases.target] == [f"item {user}-7" for user in range(5)]
    assert targets_read(cases) == []
    user_ids, leaking = histories_of_log(log, vocabulary, window)
    assert cases.user_ids == user_ids
    planted = replace(cases, histories=leaking)
    assert targets_read(planted) == user_ids


@pytest.mark.parametrize("known", [0, 1, 5])
def test_slice_whose_items_are_all_new_is_refused_and_one_known_item_is_enough(
    tmp_path: Path, known: int
) -> None:
    header = "user_id,item_id,behavior_type,user_geohash,item_category,time"
    items = [f"old {place % 9}" for place in range(70)] + [f"new {place}" for place in range(30)]
    items[80 : 80 + known] = ["old 1"] * known
    items[95] = "old 1"  # the test slice
    start = datetime(2024, 1, 1, tzinfo=UTC)
    rows = [
        f"u{place % 7},{item},1,,c,{start + timedelta(hours=place):%Y-%m-%d %H}"
        for place, item in enumerate(items)
    ]
    (tmp_path / "log.csv").write_text("\n".join([header, *rows]) + "\n")
    log, settings = read_behaviour_log(tmp_path / "log.csv"), TrainSettings()
    slices = slice_log(log, settings)
    made = log, slices, vocabulary_of_log(log.select(slices.train)), ArtifactSettings(), settings
    if known:
        _, half_lives = stretches_of(*made)
        assert half_lives.taste_h > 0
    else:
        with pytest.raises(DataError, match="no row of the validation slice has a known item"):
            stretches_of(*made)
