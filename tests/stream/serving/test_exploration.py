"""Exploration: the share that was asked for, of items that little is known of, and none that are left out."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from models.artifact.artifact import Artifact
from models.artifact.item_vectors import ItemVectors, load_item_vectors
from models.errors import SettingsError
from stream.serving.exploration import (
    RARE_EVENTS,
    RARE_SHARE,
    Shelf,
    drawn_rows,
    explored_count,
    interleaved,
    random_of,
)
from stream.serving.live_items import LiveTable
from stream.serving.ranker import Ranker, Wish
from stream.serving.read_protocol import UserVectors
from stream.serving.recommender import Recommender
from stream.store.item_rows import ItemRows, ItemsHeader
from tests.stream.serving.world import ITEMS, save_towers

#: The model's own items of which little is known, by row.
RARE = [f"i{row}" for row in range(int(ITEMS * (1 - RARE_SHARE)), ITEMS)]


class FixedReader:
    """Reads the same vectors for everyone."""

    def __init__(self, user: UserVectors) -> None:
        self.user = user

    def read(self, user_ids: list[str], category: str = "") -> list[UserVectors]:
        return [dataclasses.replace(self.user, user_id=user_id) for user_id in user_ids]


class FixedItems:
    """Live items of which two appeared since: one that few events were about, and one that many were."""

    def __init__(self, artifact: Artifact) -> None:
        self.table = LiveTable(load_item_vectors(artifact.path), np.eye(16, dtype=np.float32)[-1])
        count = np.array([[5, 5], [2 * RARE_EVENTS, RARE_EVENTS], [RARE_EVENTS + 1, 1]], np.float32)
        rows = ItemRows(
            np.array([ITEMS, ITEMS + 1, ITEMS - 1]),
            np.ones((3, 16), np.float32),
            count,
            np.full(3, 1_000),
            np.zeros(3, np.bool_),
            ["young", "risen", f"i{ITEMS - 1}"],
            ["c1", "c1", "c2"],
        )
        header = ItemsHeader(1, 1, 1, 0, ITEMS, (1.0, 0.0), (60_000.0, 60_000.0), 1_000, 0)
        self.table.take(header, [rows])

    def of(self, items: ItemVectors) -> tuple[LiveTable, str]:
        return self.table, ""

    def keep(self, versions: set[str]) -> None:
        pass


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("artifacts")


@pytest.fixture(scope="module")
def artifact(store: Path) -> Artifact:
    return save_towers(store)


@pytest.fixture
def user(artifact: Artifact) -> UserVectors:
    vec = np.random.default_rng(0).normal(size=16).astype(np.float32)
    history = b'["i3","i50"]'
    return UserVectors("u", vec, vec, vec, artifact.version, 1, 1, 0.0, 1, "", history)


@pytest.fixture
def frozen(store: Path, user: UserVectors) -> Recommender:
    return Recommender(FixedReader(user), store)  # type: ignore[arg-type]


def _live(store: Path, user: UserVectors, artifact: Artifact) -> Recommender:
    return Recommender(FixedReader(user), store, live_items=FixedItems(artifact))  # type: ignore[arg-type]


def _explored(found: list[str], flags: list[bool]) -> list[str]:
    return [item for item, is_explored in zip(found, flags, strict=True) if is_explored]


def test_share_is_right_on_average_and_never_further_off_than_one() -> None:
    random = np.random.default_rng(0)
    counts = [explored_count(12, 0.1, random) for _ in range(20_000)]
    assert {*counts} == {1, 2}
    assert np.mean(counts) == pytest.approx(1.2, abs=0.015)  # five standard errors
    assert [explored_count(10, share, random) for share in (0, 0.5, 1)] == [0, 5, 10]


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_what_is_no_share_is_refused(frozen: Recommender, share: float) -> None:
    with pytest.raises(SettingsError, match="it must be a share of the list, from 0 to 1"):
        frozen.recommend("u", explore=share)


def test_lists_explore_by_the_share_and_are_as_long_as_asked_for(frozen: Recommender) -> None:
    best = frozen.recommend("u", 10)
    total, places = 0, np.zeros(10)
    for seed in range(400):
        found = frozen.recommend("u", 10, explore=0.25, seed=seed)
        drawn = _explored(found.item_ids, found.is_explored)
        assert len({*found.item_ids}) == len(found.item_ids) == len(found.scores) == 10
        assert {*drawn} <= {*RARE} - {*best.item_ids, "i50"}
        others = [item for item in found.item_ids if item not in drawn]
        assert others == best.item_ids[: len(others)]
        total, places = total + len(drawn), places + found.is_explored
    assert total == pytest.approx(1_000, abs=50)  # five standard deviations
    assert places.min() > 60 and places.max() < 145  # each about 100, none is the last always


def test_scores_are_those_of_the_items(frozen: Recommender, artifact: Artifact, user: UserVectors) -> None:
    found = frozen.recommend("u", 10, explore=0.5, seed=1)
    rows = [int(item[1:]) for item in found.item_ids]
    np.testing.assert_allclose(found.scores, artifact.item_vectors[rows] @ user.vec, rtol=1e-5)
    assert len(found.categories) == 10
    assert found.explored_items == 5


def test_without_exploration_nothing_is_drawn(frozen: Recommender) -> None:
    found = frozen.recommend("u", 10, explore=0.0, seed=3)
    assert found == frozen.recommend("u", 10)
    assert found.is_explored == []


def test_same_seed_draws_the_same_for_a_user_and_other_for_others(frozen: Recommender) -> None:
    same = [frozen.recommend("u", 10, explore=0.5, seed=7).item_ids for _ in range(2)]
    assert same[0] == same[1]
    assert frozen.recommend("u", 10, explore=0.5, seed=8).item_ids != same[0]
    assert frozen.recommend("v", 10, explore=0.5, seed=7).item_ids != same[0]
    without = {tuple(frozen.recommend("u", 10, explore=0.5).item_ids) for _ in range(5)}
    assert len(without) > 1
    assert random_of(7, "u").random() == random_of(7, "u").random()


def test_filters_hold_for_what_explores(frozen: Recommender) -> None:
    of_category = [item for item in RARE if int(item[1:]) % 3 == 1]
    out = {of_category[0], "i50"}
    seen: set[str] = set()
    for seed in range(60):
        found = frozen.recommend("u", 4, explore=0.5, seed=seed, category="c1", exclude=[of_category[0]])
        assert all(int(item[1:]) % 3 == 1 for item in found.item_ids)
        assert not out & {*found.item_ids}
        seen |= {*_explored(found.item_ids, found.is_explored)}
    assert seen and seen <= {*of_category}


def test_where_nothing_is_left_to_explore_the_list_is_the_best(frozen: Recommender) -> None:
    everything = frozen.recommend("u", ITEMS, explore=0.5, seed=0)
    assert everything.item_ids == frozen.recommend("u", ITEMS).item_ids
    assert not any(everything.is_explored)
    assert frozen.recommend("u", 5, category="no such", explore=0.5).item_ids == []


def test_young_live_items_are_explored_until_many_events_were_about_them(
    store: Path, user: UserVectors, artifact: Artifact
) -> None:
    live, drawn = _live(store, user, artifact), set()
    for seed in range(200):
        found = live.recommend("u", 3, explore=1 / 3, seed=seed, exclude=["risen"])
        drawn |= {*_explored(found.item_ids, found.is_explored)}
    assert drawn and drawn <= {*RARE, "young"} - {"i50", "risen", f"i{ITEMS - 1}"}
    table = FixedItems(artifact).table
    popularity = table.vectors[:, -2:]
    shelf = Shelf(table.row_of, table.vectors[:, :-2], table.categories, table.is_there, popularity, ITEMS)
    every = drawn_rows(shelf, user.vec, ITEMS, np.random.default_rng(0), (), None)
    assert sorted(every.tolist()) == [*range(ITEMS - len(RARE), ITEMS - 1), ITEMS]


def test_a_cold_start_user_explores_too(store: Path, user: UserVectors, artifact: Artifact) -> None:
    stranger = dataclasses.replace(user, reason="cold_start", recent=b"")
    found = _live(store, stranger, artifact).recommend("u", 10, explore=0.3, seed=1)
    assert (len(found.item_ids), found.explored_items) == (10, 3)


def test_nearer_items_are_drawn_more_often_and_far_ones_too() -> None:
    known, random = 100, np.random.default_rng(0)
    vectors = np.linspace(0, 1, known, dtype=np.float32)[:, None]
    every = np.broadcast_to(np.True_, known)
    shelf = Shelf({}, vectors, np.full(known, "", object), every, None, known)
    counts = np.zeros(known)
    for _ in range(3_000):
        (row,) = drawn_rows(shelf, np.ones(1, np.float32), 1, random, (), None)
        counts[row] += 1
    assert not counts[:90].any()  # of the 20 rare ones the 10 nearest
    near = vectors[90:, 0]
    softmax = np.exp(near / near.std())
    np.testing.assert_allclose(counts[90:] / 3_000, softmax / softmax.sum(), atol=0.04)
    assert len({*drawn_rows(shelf, np.ones(1, np.float32), 20, random, (), None).tolist()}) == 20


def test_explored_items_stand_anywhere_and_both_keep_their_order() -> None:
    random = np.random.default_rng(0)
    for _ in range(50):
        found = interleaved([5, 3, 9], [20, 10], random)
        assert [each for each in found if each < 10] == [5, 3, 9]
        assert [each for each in found if each >= 10] == [20, 10]


def test_ranker_of_one_stage_gives_what_the_recommender_gives(frozen: Recommender, user: UserVectors) -> None:
    ranker = Ranker(FixedReader(user), frozen)  # type: ignore[arg-type]
    for explore in (0.0, 0.4):
        one = ranker.recommend("u", 10, explore=explore, seed=5)
        other = frozen.recommend("u", 10, explore=explore, seed=5)
        assert (one.item_ids, one.is_explored) == (other.item_ids, other.is_explored)
        np.testing.assert_allclose(one.scores, other.scores)
    wishes = [Wish("v", 5, explore=0.4, seed=5), Wish("u", 10, explore=0.4, seed=5)]
    assert ranker.recommend_many(wishes)[1].item_ids == one.item_ids
