"""Every path of encoding equals the towers themselves, for any user in any company."""

from collections.abc import Callable
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.encoder import Vectors
from models.ids.vocabulary import Vocabulary
from models.ids.vocabulary_file import FIRST_KNOWN
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
from models.windows.histories import Histories
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
