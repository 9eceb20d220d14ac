"""Every path of encoding equals the towers themselves, for any user in any company."""

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.encoder import Vectors
from models.ids.hashes import hashes_of
from models.ids.texts import texts_of
from models.ids.vocabulary import Vocabulary
from models.ids.vocabulary_file import FIRST_KNOWN, UNKNOWN
from models.inference.cpu_towers import CpuTowers
from models.inference.cuda_graphs import GraphedTowers, rounded_up
from models.inference.inference import PASS_USERS, Inference, TowerPath
from models.inference.padded_towers import PaddedTowers
from models.inference.tower_model import TowerModel
from models.length_buckets import buckets
from models.towers.dual_towers import DualTowers, TowerVectors
from models.towers.features import features
from models.towers.histories import FeatureSettings
from models.towers.settings import ModelSettings
from models.windows.histories import Histories, histories_of_windows
from models.windows.live_inputs import LiveEvents, make_live_inputs, newest_events
from models.windows.window import Window, window_to_bytes
from offline.training.ablation import leave_out

Split = Literal["session", "ratio"]
ITEMS = 20  # so few that users return to some
VOCABULARY = Vocabulary([str(n) for n in range(ITEMS)], [2 + n % 4 for n in range(ITEMS)], list("abcd"))
SPLITS: tuple[Split, ...] = ("session", "ratio")
MakePath = Callable[[DualTowers], TowerPath]
NAMES = ("user", "long", "short")


def cpu_towers(towers: DualTowers) -> CpuTowers:
    return CpuTowers(towers.weights(), FeatureSettings(short_events=towers.direct.reach))


def inference_of(towers: DualTowers, chosen: FeatureSettings, path: MakePath | None = None) -> Inference:
    if path is None:
        return TowerModel.of(towers, chosen).on_cpu()
    return Inference(towers.weights(), chosen, path(towers))


needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
on_gpu = pytest.param(GraphedTowers, marks=needs_gpu)
every_path = pytest.mark.parametrize("path", [cpu_towers, PaddedTowers, on_gpu])


def towers_of(
    chosen: FeatureSettings, long_layers: int = 1, heads: int = 2, score: Literal["dot", "cosine"] = "dot"
) -> DualTowers:
    torch.manual_seed(0)
    model = ModelSettings(dimension=16, long_layers=long_layers, heads=heads, score=score)
    towers = DualTowers(VOCABULARY, chosen, model).eval()
    with torch.no_grad():
        for parameter in towers.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return towers


def histories(counts: list[int], seed: int = 0) -> Histories:
    random, total = np.random.default_rng(seed), sum(counts)
    item = random.integers(1, FIRST_KNOWN + ITEMS, total)
    return Histories(
        item=item,
        category=VOCABULARY.categories_of(item, random.integers(1, 6, total)),
        behaviour=random.integers(1, 5, total).astype(np.uint8),
        time_ms=np.cumsum(random.choice([0, 60_000, 4_000_000, 90_000_000], total)),
        starts=np.concatenate(([0], np.cumsum(counts))).astype(np.int64),
    )


def reference(towers: DualTowers, users: Histories, chosen: FeatureSettings) -> TowerVectors:
    with torch.inference_mode():
        vectors: TowerVectors = towers(features(users, chosen))
    return vectors


def assert_same(found: Vectors, expected: TowerVectors | Vectors) -> None:
    for name in NAMES:
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=1e-5, err_msg=name)


@pytest.mark.parametrize("split", ["session", "ratio"])
@every_path
def test_users_of_every_length_get_what_the_towers_give(split: Split, path: MakePath) -> None:
    chosen = FeatureSettings(split=split)
    towers, users = towers_of(chosen), histories([*range(111), 0, 1, 110])
    assert_same(inference_of(towers, chosen, path).encode(users), reference(towers, users, chosen))


@every_path
def test_transformers_that_were_left_out_add_nothing(path: MakePath) -> None:
    chosen = FeatureSettings()
    towers, users = towers_of(chosen), histories([*range(20), 110])
    leave_out(towers, ["transformers"])
    assert_same(inference_of(towers, chosen, path).encode(users), reference(towers, users, chosen))


@every_path
def test_score_by_cosine_is_the_dot_product_of_what_is_exported(path: MakePath) -> None:
    chosen = FeatureSettings()
    towers, users = towers_of(chosen, score="cosine"), histories([*range(20), 110])
    found = inference_of(towers, chosen, path).encode(users)
    assert_same(found, reference(towers, users, chosen))
    scale = towers.temperature.exp().item()
    with torch.inference_mode():
        lengths = [towers.item_vectors().norm(dim=-1).numpy(), np.linalg.norm(found.user, axis=-1) / scale]
    for each in lengths:
        np.testing.assert_allclose(each, 1, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=12),
    st.integers(0, 9),
    st.sampled_from(SPLITS),
)
def test_a_vector_does_not_depend_on_who_else_is_encoded(counts: list[int], seed: int, split: Split) -> None:
    chosen = FeatureSettings(short_events=4, long_events=20, split=split)
    users, inference = histories(counts, seed), inference_of(towers_of(chosen), chosen)
    together = inference.encode(users)
    for user in range(len(counts)):
        alone = inference.encode(users.take(np.array([user])))
        for name in NAMES:
            np.testing.assert_allclose(getattr(alone, name)[0], getattr(together, name)[user], atol=1e-5)


@pytest.mark.parametrize(("long_layers", "heads"), [(2, 2), (1, 1), (1, 4)])
@pytest.mark.parametrize("path", [None, on_gpu])
def test_towers_of_any_form_are_encoded(path: MakePath | None, long_layers: int, heads: int) -> None:
    chosen = FeatureSettings()
    towers, users = towers_of(chosen, long_layers, heads), histories([0, 3, 110, 60])
    assert CpuTowers.can_run(towers.weights()) == (long_layers == 1)
    inference = inference_of(towers, chosen, path)
    assert_same(inference.encode(users), reference(towers, users, chosen))


@needs_gpu
def test_graphs_give_every_pass_its_own_vectors() -> None:
    chosen = FeatureSettings()
    towers = towers_of(chosen)
    inference = inference_of(towers, chosen, GraphedTowers)
    random = np.random.default_rng(0)
    for size in [1, 700, 30, 1, 300, 700, 5]:  # graphs of several shapes, and in turn
        users = histories(random.integers(0, 111, size).tolist(), seed=size)
        assert_same(inference.encode(users), reference(towers, users, chosen))


@pytest.mark.parametrize(("count", "found"), [(0, 16), (16, 16), (17, 64), (64, 64), (1025, 4096)])
def test_graphs_have_room_for_everyone(count: int, found: int) -> None:
    assert rounded_up(count, 16, 4) == found


def test_more_users_than_one_pass_takes_keep_their_order() -> None:
    chosen = FeatureSettings()
    towers, users = towers_of(chosen), histories([1 + n % 3 for n in range(PASS_USERS + 50)])
    assert_same(inference_of(towers, chosen).encode(users), reference(towers, users, chosen))


@every_path
def test_nobody_has_no_vectors(path: MakePath) -> None:
    towers = towers_of(FeatureSettings())
    inference = inference_of(towers, FeatureSettings(), path)
    assert inference.encode(histories([])).user.shape == (0, 16)
    assert inference.encode_pass(histories([])).long.shape == (0, 16)


@given(st.lists(st.integers(0, 110), max_size=50))
def test_buckets_hold_each_user_once_and_are_less_than_half_padding(counts: list[int]) -> None:
    found = [some.tolist() for some in buckets(np.array(counts, dtype=np.int64))]
    assert sorted(user for some in found for user in some) == list(range(len(counts)))
    for some in found:
        longest = max(counts[user] for user in some)
        assert longest <= 8 or all(2 * counts[user] > longest for user in some)


@needs_gpu
def test_bfloat16_loses_a_little() -> None:
    chosen = FeatureSettings()
    towers, users = towers_of(chosen), histories([5, 50, 110, 0])
    rough = inference_of(towers, chosen, lambda towers: GraphedTowers(towers, bfloat16=True)).encode(users)
    difference = np.abs(rough.user - reference(towers, users, chosen).user.numpy())
    assert 1e-5 < difference.max() < 0.1


def live_of(users: Histories, chosen: FeatureSettings, seed: int = 1) -> LiveEvents:
    """Return live inputs of about half of the items, known and new, at the newest events of each user."""
    random = np.random.default_rng(seed)
    hashes = np.arange(1, 13, dtype=np.uint64)
    vectors = random.normal(size=(len(hashes), 16)).astype(np.float32)
    inputs = make_live_inputs("1.1", hashes, vectors, chosen.short_events)
    row = np.full(len(users.item), -1, np.int64)
    newest = newest_events(users.starts, chosen.short_events)
    row[newest] = inputs.table.find(random.integers(1, 25, len(newest)).astype(np.uint64))
    return LiveEvents(inputs, row)


@pytest.mark.parametrize("split", SPLITS)
def test_live_items_enter_the_short_vector_and_leave_the_long_one_as_it_was(split: Split) -> None:
    chosen = FeatureSettings(split=split)
    towers, users = towers_of(chosen), histories([*range(30), 110])
    living = replace(users, live=live_of(users, chosen))
    fast, slow = (inference_of(towers, chosen, path) for path in (cpu_towers, PaddedTowers))
    trained, found = fast.encode(users), fast.encode(living)
    assert_same(found, slow.encode(living))
    np.testing.assert_array_equal(found.long, trained.long)
    assert (np.abs(found.short - trained.short).max(axis=1) > 1e-3).mean() > 0.5
    alone = [fast.encode(living.take(np.array([user]))).user[0] for user in range(len(users))]
    np.testing.assert_allclose(np.stack(alone), found.user, atol=1e-5)
    # What nobody has live inputs of is as trained, to the bit.
    none = replace(users, live=LiveEvents(living.live.inputs, np.full(len(users.item), -1)))  # type: ignore[union-attr]
    np.testing.assert_array_equal(fast.encode(none).user, trained.user)


def test_live_vectors_that_are_those_as_trained_change_nothing_and_new_items_come_again() -> None:
    chosen = FeatureSettings()
    towers, users = towers_of(chosen), histories([10, 10])
    with torch.inference_mode():
        entering = towers.items(torch.from_numpy(users.item), torch.from_numpy(users.category)).numpy()
    known = users.item >= FIRST_KNOWN
    _, first, row = np.unique(users.item, True, True)
    inputs = make_live_inputs("1.1", np.arange(len(first), dtype=np.uint64), entering[first], 10)
    live = replace(users, live=LiveEvents(inputs, np.where(known, row, -1)))
    inference = inference_of(towers, chosen)
    # Up to what a byte leaves of a coordinate.
    np.testing.assert_allclose(inference.encode(live).user, inference.encode(users).user, atol=0.1)
    # Two views of one new item are not two views of two.
    unknown = replace(histories([2]), item=np.array([UNKNOWN, UNKNOWN]), category=np.array([1, 1]))
    same = make_live_inputs("1.1", np.array([7, 8], np.uint64), np.ones((2, 16), np.float32), 10)
    one, two = (
        inference.encode(replace(unknown, live=LiveEvents(same, np.array(rows)))).user
        for rows in ([0, 0], [0, 1])
    )
    assert np.abs(one - two).max() > 1e-3


def test_windows_find_their_live_items_by_id_among_the_newest_events() -> None:
    window = Window(item_ids=["1", "new", "other", "new", "2"], categories=["a"] * 5, behaviours=[1] * 5)
    window.times_ms, window.event_hashes = [1, 2, 3, 4, 5], [1, 2, 3, 4, 5]
    hashes = hashes_of(texts_of(["new", "2"]))
    live = make_live_inputs("1.1", hashes, np.ones((2, 16), np.float32), 4)
    values = [window_to_bytes(window), window_to_bytes(Window()), window_to_bytes(window)]
    found = histories_of_windows(values, VOCABULARY, live)
    assert found.live is not None
    assert found.live.row.tolist() == [-1, 0, -1, 0, 1] * 2
    assert histories_of_windows(values, VOCABULARY, replace(live, reach=3)).live.row.tolist()[:2] == [-1, -1]  # type: ignore[union-attr]
    assert found.take(np.array([2])).live.row.tolist() == [-1, 0, -1, 0, 1]  # type: ignore[union-attr]
    assert histories_of_windows([], VOCABULARY, live).live.row.tolist() == []  # type: ignore[union-attr]
