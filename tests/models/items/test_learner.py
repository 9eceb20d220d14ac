"""The learner of items: what it computes, that batches and restarts change nothing, and spam."""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from bench.harness.artifact import publish_untrained
from models.arrays import Doubles
from models.artifact.artifact import Artifact, load
from models.artifact.live_items import LiveItemsSettings
from models.ids.texts import texts_of
from models.ids.vocabulary import Vocabulary
from models.inference.tower_model import TowerModel
from models.items.learner import ItemLearner
from models.items.settings import LearnerSettings
from models.items.starts import start_vectors
from models.windows.fold import EventColumns
from models.windows.histories import Histories

LIVE = LiveItemsSettings(half_lives_ms=(60_000, 3_600_000), rate=0.1, own=0.5)
SMALL = LearnerSettings(remembered_pairs=1_000)


class Click(NamedTuple):
    user: str
    item: str
    time_ms: int
    category: str = ""
    event_id: int = 0


def columns(clicks: Sequence[Click]) -> tuple[list[str], EventColumns]:
    users = list(dict.fromkeys(click.user for click in clicks))
    return users, EventColumns(
        np.array([users.index(click.user) for click in clicks], np.int64),
        np.arange(len(clicks)),
        np.array([click.time_ms for click in clicks], np.int64),
        np.ones(len(clicks), np.uint8),
        np.array([click.event_id or hash(click) % 2**62 for click in clicks], np.int64),
        texts_of([click.item for click in clicks]),
        texts_of([click.category for click in clicks]),
    )


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    store: Path = tmp_path_factory.mktemp("items")
    publish_untrained(store, Vocabulary([f"i{n}" for n in range(20)], [2, 3] * 10, ["a", "b"]))
    return load(store)


def traffic(count: int, seed: int = 0) -> list[Click]:
    """Return clicks of 30 users on 40 items, half of them new to the model, a few late and a few twice."""
    random = np.random.default_rng(seed)
    clicks = []
    for number in range(count):
        late_ms = 20_000 * int(random.random() < 0.1)
        user, item = f"u{random.integers(30)}", f"i{random.integers(40)}"
        clicks.append(Click(user, item, 1_000_000 + number * 1_000 - late_ms, "ab"[int(item[1:]) % 2]))
        if random.random() < 0.05:
            clicks.append(clicks[-1])
    return clicks


def learned(
    artifact: Artifact,
    clicks: Sequence[Click],
    batch: int,
    settings: LearnerSettings = SMALL,
    live: LiveItemsSettings = LIVE,
) -> ItemLearner:
    learner = ItemLearner.start(artifact, live, settings)
    for part in parts(clicks, batch):
        learner.learn(*columns(part))
    return learner


def parts(clicks: Sequence[Click], size: int) -> Iterator[Sequence[Click]]:
    return (clicks[at : at + size] for at in range(0, len(clicks), size))


def assert_same(left: ItemLearner, right: ItemLearner) -> None:
    ours, theirs = left.state(), right.state()
    assert ours.keys() == theirs.keys()
    for name in ours:
        one, other = ours[name], theirs[name]
        if name.startswith("pairs/"):
            one, other = np.sort(one), np.sort(other)
        np.testing.assert_array_equal(one, other, err_msg=name)


def count_at(learner: ItemLearner, item_id: str, now_ms: int) -> Doubles:
    """Return what is left of an item's counts at a time, one for each half-life."""
    items = learner.shown.rows(np.array([learner.item_ids.index(item_id)]))
    found: Doubles = items.counts[0] * np.exp2((items.counted_ms[0] - now_ms) / np.array(LIVE.half_lives_ms))
    return found


#: Limits so low that rows of items and users are given to others all the time.
TIGHT = replace(SMALL, max_new_items=8, max_users=9, remembered_pairs=20, item_ttl_ms=60_000)


@pytest.mark.parametrize("settings", [SMALL, TIGHT], ids=["roomy", "tight"])
def test_batches_and_restarts_change_no_bit(artifact: Artifact, settings: LearnerSettings) -> None:
    clicks = traffic(600)
    whole = learned(artifact, clicks, len(clicks), settings)
    assert_same(whole, learned(artifact, clicks, 7, settings))
    resumed = ItemLearner.start(artifact, LIVE, settings)
    for part in parts(clicks, 50):
        resumed.learn(*columns(part))
        resumed = ItemLearner.resume(artifact, LIVE, resumed.state(), settings)
    assert_same(whole, resumed)
    assert whole.counts_of_events["learned"] > 100 and whole.counts_of_events["duplicate"] > 10


def shown(learner: ItemLearner) -> dict[str, tuple[bytes, bytes, bytes]]:
    """Return what may be seen of each item: vectors and counts."""
    items = learner.shown.rows(np.arange(len(learner.item_ids)))
    return {
        item_id: (items.inputs[row].tobytes(), items.outputs[row].tobytes(), items.counts[row].tobytes())
        for row, item_id in enumerate(items.item_ids)
    }


def test_ten_thousand_clicks_of_one_user_move_no_more_than_one(artifact: Artifact) -> None:
    before, after, farm_ms = traffic(200), traffic(100, seed=1), 1_200_000
    once = [Click("farm", "new", farm_ms)]
    often = once + [Click("farm", "new", farm_ms - n % 900, event_id=10**9 + n) for n in range(10_000)]
    honest, spammed = (learned(artifact, [*before, *some, *after], 5_000) for some in (once, often))
    assert shown(honest) == shown(spammed)


def test_a_hundred_users_on_one_item_are_a_hundred_honest_ones(artifact: Artifact) -> None:
    farm = [Click(f"farm{n}", "new", 1_200_000 + n) for n in range(100)]
    clicking_on = [each._replace(event_id=10**9 + n) for n, each in enumerate(farm * 20)]
    honest, spammed = (
        learned(artifact, [*traffic(200), *some], 5_000) for some in (farm, farm + clicking_on)
    )
    assert shown(honest) == shown(spammed)


def test_what_has_few_readers_shows_nobodys_taste(artifact: Artifact) -> None:
    clicks = [Click(f"u{n}", item, 1_000_000 + n, "a") for n in range(5) for item in ("i1", "i2", "new")]
    learner = learned(artifact, clicks[:-3], 100)
    row = learner.item_ids.index("new")
    category = artifact.vocabulary.category_indices(["a"])
    few = learner.shown.rows(np.array([row]))
    begins = start_vectors(learner.trained.starts, category, learner.hashes[row : row + 1])
    np.testing.assert_array_equal((few.inputs, few.outputs), begins)
    assert few.counts[0, 1] > 3.9 and few.categories == ["a"]
    assert (learner.outputs[row] != few.outputs[0]).any()  # it has learned, and does not show it
    learner.learn(*columns(clicks[-3:]))
    np.testing.assert_array_equal(learner.shown.rows(np.array([row])).outputs[0], learner.outputs[row])


def test_a_new_item_that_one_user_comes_back_to_is_theirs_before_it_has_readers(artifact: Artifact) -> None:
    clicks = [Click(f"u{n}", f"new{n}", 1_000_000 + n, "a") for n in range(20)]
    alike, told_apart = (
        ItemLearner.start(artifact, replace(LIVE, rate=0.0, own=own), SMALL) for own in (0.0, 1.0)
    )
    for learner in (alike, told_apart):
        learner.learn(*columns(clicks))
    rows = [told_apart.item_ids.index(click.item) for click in clicks]
    users = [click.user for click in clicks]
    found = np.stack([told_apart.shown.scores(user)[rows] for user in told_apart.shown.user_vectors(users)])
    np.testing.assert_array_equal(found.argmax(axis=1), np.arange(20))
    assert len(np.unique(alike.shown.rows(np.array(rows)).outputs, axis=0)) == 1
    shown = told_apart.shown.rows(np.array(rows)).outputs
    np.testing.assert_allclose(told_apart.shown.user_vectors(users) @ shown.T, found, atol=1e-5)


def test_counts_are_sums_of_decayed_events_in_any_order(artifact: Artifact) -> None:
    times_ms = [5_000_000, 5_090_000, 5_030_000, 5_200_000, 5_010_000]
    learner = learned(artifact, [Click(f"u{n}", "new", each) for n, each in enumerate(times_ms)], 2)
    now_ms = 5_260_000
    expected = [
        sum(2 ** ((each - now_ms) / half_life_ms) for each in times_ms) for half_life_ms in LIVE.half_lives_ms
    ]
    np.testing.assert_allclose(count_at(learner, "new", now_ms), expected)


def test_users_are_what_the_towers_make_of_the_same_events(artifact: Artifact) -> None:
    towers = copy.deepcopy(artifact.towers)
    with torch.no_grad():
        towers.short_scale.zero_()
        towers.long_scale.zero_()
    model = TowerModel.of(towers, artifact.settings.features)
    plain = replace(artifact, model=model, encoder=model.on_cpu())
    random = np.random.default_rng(0)
    clicks: list[Click] = []
    for number in range(300):
        user = f"u{random.integers(40)}"
        pause_ms = 7_200_000 if random.random() < 0.02 else 1_000
        item_id = f"i{random.integers(20)}" if random.random() < 0.8 else f"new{number}"
        clicks.append(Click(user, item_id, (clicks[-1].time_ms if clicks else 0) + pause_ms, "a"))
    learner = ItemLearner.start(plain, replace(LIVE, rate=0.0, own=0.0), SMALL)
    learner.learn(*columns(clicks))
    users = sorted({click.user for click in clicks})
    own = [[click for click in clicks if click.user == user] for user in users] + [[]]
    vocabulary = plain.vocabulary
    item = vocabulary.item_indices([click.item for some in own for click in some])
    category = vocabulary.categories_of(item, np.full(len(item), 2))
    times_ms = np.array([click.time_ms for some in own for click in some])
    starts = np.concatenate(([0], np.cumsum([len(some) for some in own])))
    histories = Histories(item, category, np.ones(len(item), np.uint8), times_ms, starts)
    expected = plain.encode(histories).user[:, :-1]
    np.testing.assert_allclose(learner.shown.user_vectors([*users, "nobody"])[:, :-1], expected, atol=1e-5)


@pytest.mark.parametrize("moves_known", [True, False], ids=["all learn", "new ones learn"])
def test_a_new_item_is_learned_for_those_like_its_readers(artifact: Artifact, moves_known: bool) -> None:
    random = np.random.default_rng(0)
    clicks: list[Click] = []
    for number in range(4_000):
        group = number % 2
        item = f"i{2 * random.integers(10) + group}" if random.random() < 0.8 else f"new{group}"
        clicks.append(Click(f"u{group}-{random.integers(50)}", item, number * 60_000))
    learner = learned(artifact, clicks, 500, live=replace(LIVE, moves_known=moves_known))
    users = learner.shown.user_vectors(["u0-1", "u1-1"])
    rows = [learner.item_ids.index(f"new{group}") for group in (0, 1)]
    for group, user in enumerate(users):
        scores = learner.shown.scores(user)
        assert scores[rows[group]] > scores[rows[1 - group]] + 1
    health = learner.health()
    assert health.is_sane and health.loss < health.frozen_loss
    begun, known = ItemLearner.start(artifact, LIVE, SMALL), len(artifact.item_ids)
    for vectors in ("inputs", "outputs"):
        moved = getattr(learner, vectors)[:known] != getattr(begun, vectors)[:known]
        assert moved.any() == moves_known


def test_a_learner_that_goes_wrong_says_so(artifact: Artifact) -> None:
    learner = learned(artifact, traffic(600), 100)
    assert learner.health().is_sane
    learner.outputs[3] *= 1e6
    assert "long" in learner.health().reason
    learner.outputs[3] = np.nan
    assert "no number" in learner.health().reason


def test_items_expire_and_are_forgotten_and_start_anew(artifact: Artifact) -> None:
    learner = learned(artifact, [Click(f"u{n}", "new", n) for n in range(6)], 10, TIGHT)
    learner.learn(*columns([Click("u1", "other", 100_000)]))
    assert learner.names.removed == ["new"] and "new" not in learner.item_ids
    assert learner.forget_item("i3") and not learner.forget_item("i3")
    learner.learn(*columns([Click("u2", "i3", 101_000)]))
    row = learner.item_ids.index("i3")
    assert not learner.is_known[row] and learner.readers[row] == 1
    assert learner.forget_user("u2") and not learner.forget_user("u2")
    learner.learn(*columns([Click("u3", "i0", 10**9)]))
    assert learner.item_ids[20:] == [""] and "i3" not in learner.item_ids and "i0" in learner.item_ids


def test_an_item_that_begins_anew_has_changed_although_the_event_counts_no_more(artifact: Artifact) -> None:
    learner = learned(artifact, [Click("u", "new", 1_000_000)] * 2, 1)
    assert learner.forget_item("new")
    before = learner.step
    learner.learn(*columns([Click("u", "new", 1_000_001)]))  # the user has had it in this hour
    assert learner.counts_of_events == {"learned": 1, "duplicate": 1, "repeated": 1}
    assert [learner.item_ids[row] for row in learner.changed_since(before)] == ["new"]


def test_a_clock_that_is_ahead_makes_no_other_event_late(artifact: Artifact) -> None:
    day_ms = 86_400_000
    learner = learned(artifact, [Click("u0", "new", 1_000), Click("u1", "new", day_ms)], 10)
    assert learner.now_ms < day_ms / 100
    learner.learn(*columns([Click(f"u{n}", "new", 700_000 + n) for n in range(2, 9)]))
    assert count_at(learner, "new", 700_010)[1] > 7


@pytest.mark.parametrize("gap_ms", [3_600_000, 400 * 86_400_000])
def test_clock_follows_a_stream_that_has_gaps(artifact: Artifact, gap_ms: int) -> None:
    clicks = [Click(f"u{n}", f"i{n % 5}", 1_000 + n * gap_ms) for n in range(80)]
    assert learned(artifact, clicks, 10).now_ms == clicks[-1].time_ms


def test_clock_follows_a_stream_that_leaps_once_most_events_are_ahead(artifact: Artifact) -> None:
    year_ms = 365 * 86_400_000
    learner = learned(artifact, [Click(f"u{n}", "i1", 1_000 + n) for n in range(100)], 10)
    learner.learn(*columns([Click(f"u{n}", "i2", year_ms + n) for n in range(60)]))
    assert learner.now_ms < year_ms / 10
    learner.learn(*columns([Click(f"v{n}", "new", year_ms + 100 + n) for n in range(10)]))
    assert learner.now_ms == year_ms + 109
    assert "new" in learner.item_ids


@pytest.mark.parametrize("first", [0, 1])
def test_clock_does_not_follow_a_few_be_they_the_first(artifact: Artifact, first: int) -> None:
    day_ms = 86_400_000
    clicks = [Click(f"u{n}", "i1", ((n + first) % 10 == 1) * day_ms + n) for n in range(500)]
    assert learned(artifact, clicks, 10).now_ms < day_ms / 2


def test_state_of_an_older_version_is_resumed(artifact: Artifact) -> None:
    learner = learned(artifact, traffic(100), 10)
    state = learner.state()
    older = {**state, "stream/numbers": state["stream/numbers"][:6]}
    resumed = ItemLearner.resume(artifact, LIVE, older, SMALL)
    assert resumed.state()["stream/numbers"].tolist() == state["stream/numbers"].tolist()
