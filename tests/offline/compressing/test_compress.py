"""A compressed model is the same wherever it is loaded, and published only where it ranks well."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from models.artifact.artifact import load
from models.artifact.item_vectors import load_item_vectors
from models.artifact.settings import ArtifactSettings
from models.errors import ArtifactError
from models.inference.cpu_towers import CpuTowers
from models.inference.inference import Inference
from models.inference.padded_towers import PaddedTowers
from models.quantised import dequantised, quantised
from models.towers.dual_towers import DualTowers
from models.towers.event_weights import event_weights
from models.towers.loading import towers_of
from models.towers.settings import ModelSettings
from models.towers.weights import ENTERING, TowerWeights
from models.windows.live_inputs import LiveEvents, make_live_inputs
from models.zeros import KEPT, VALUES, with_zeros, without_zeros
from offline import compress, evaluate, train
from offline.compressing.weights import compressed, pruned
from tests.models.made_users import VOCABULARY, made_histories

FAST = "dimension = 16\ndropout = 0.1\nshort_events = 4\nlr = 0.01\nbatch_size = 4\nlive_items = false\n"
LENGTHS = (0, 1, 2, 15, 110)


def made_towers(**settings: Any) -> DualTowers:
    """Return towers of random numbers, some items of which are shorter than any direction."""
    torch.manual_seed(0)
    towers = DualTowers(VOCABULARY, ArtifactSettings().features, ModelSettings(dimension=16, **settings))
    with torch.no_grad():
        for parameter in towers.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
        towers.items.item.weight[5:8] = (
            towers.items.category.weight[towers.items.item_categories[5:8]] * -0.99
        )
    return towers.eval()


def encoders(weights: TowerWeights) -> tuple[Inference, Inference]:
    """Return what encodes by compiled loops, as a worker does, and by PyTorch's towers."""
    features = ArtifactSettings().features
    towers = towers_of(weights, VOCABULARY, features)
    paths = CpuTowers(weights, features), PaddedTowers(towers)
    return tuple(Inference(weights, features, path) for path in paths)  # type: ignore[return-value]


@pytest.mark.parametrize("length", ["one", "free"])
@pytest.mark.parametrize("score", ["dot", "cosine"])
def test_loops_on_bytes_are_the_towers_on_what_the_bytes_stand_for(length: str, score: str) -> None:
    towers = made_towers(item_length=length, score=score)
    whole, small = towers.weights(), compressed(towers.weights(), int8=True, share=0.0)
    users = made_histories(LENGTHS)
    by_loops, by_towers = (each.encode(users) for each in encoders(small))
    for name in ("user", "long", "short"):
        np.testing.assert_allclose(getattr(by_loops, name), getattr(by_towers, name), atol=1e-5)
    before = encoders(whole)[0].encode(users).user
    assert 1e-5 < np.abs(by_loops.user - before).max() < 0.05 * np.abs(before).max()


def test_live_items_enter_a_compressed_model_too() -> None:
    small = compressed(made_towers().weights(), int8=True, share=0.0)
    users, random = made_histories(LENGTHS), np.random.default_rng(0)
    loops, towers = encoders(small)
    for number in ("1.1", "1.2"):  # the second snapshot takes the place of the first
        vectors = random.normal(size=(7, 16)).astype(np.float32)
        inputs = make_live_inputs(number, np.arange(7, dtype=np.uint64), vectors, 10)
        live = replace(users, live=LiveEvents(inputs, random.integers(-1, 7, len(users.item))))
        found, expected = loops.encode(live), towers.encode(live)
        np.testing.assert_allclose(found.user, expected.user, atol=1e-5)
        assert np.abs(found.short - loops.encode(users).short).max() > 0.1
        np.testing.assert_array_equal(found.long, loops.encode(users).long)


def test_what_an_event_weighs_is_told_of_bytes_too() -> None:
    small = compressed(made_towers().weights(), int8=True, share=0.0)
    one = made_histories((20,))
    features = ArtifactSettings().features
    found = encoders(small)[0].event_weights(one)
    expected = event_weights(towers_of(small, VOCABULARY, features), one, features)
    assert found is not None and found.short is not None and expected.short is not None
    np.testing.assert_allclose(found.short, expected.short, atol=1e-5)
    np.testing.assert_allclose(found.direct, expected.direct, atol=1e-5)


def test_bytes_are_no_further_off_than_half_a_step() -> None:
    rows = np.random.default_rng(0).normal(size=(30, 16)).astype(np.float32)
    rows[3] = 0
    values, scale = quantised(rows)
    assert (np.abs(dequantised(values, scale) - rows).max(axis=1) <= 0.5001 * scale).all()
    assert not dequantised(values, scale)[3].any()


def test_the_smallest_share_of_each_matrix_is_zero() -> None:
    matrix = np.arange(1, 41, dtype=np.float32).reshape(5, 8) * np.where(np.arange(8) % 2, 1, -1)
    found = pruned(matrix, 0.5)
    assert (found.ravel()[:20] == 0).all()
    np.testing.assert_array_equal(found.ravel()[20:], matrix.ravel()[20:])
    np.testing.assert_array_equal(pruned(matrix, 0.01), matrix)
    whole, small = made_towers().weights(), compressed(made_towers().weights(), int8=False, share=0.5)
    for name, array in small.arrays.items():
        is_pruned = array.ndim == 2 and (name.startswith("items.") or ".layers." in name)
        share = (array == 0).mean()
        assert (0.49 < share < 0.6) if is_pruned else np.array_equal(array, whole.arrays[name]), name


@given(
    arrays(np.int8, st.tuples(st.integers(1, 9), st.sampled_from([8, 16, 12])), elements=st.integers(-1, 1))
)
def test_zeros_come_back(matrix: np.ndarray) -> None:
    as_float = {"a": matrix, "b": matrix.astype(np.float32), "c": np.zeros(3, np.float32)}
    stored = without_zeros(as_float)
    assert sum(each.nbytes for each in stored.values()) <= sum(each.nbytes for each in as_float.values())
    found = with_zeros(stored)
    assert found.keys() == as_float.keys()
    for name, array in as_float.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype


def test_values_that_do_not_fit_their_bits_are_refused() -> None:
    stored = without_zeros({"a": np.eye(8, dtype=np.float32)})
    assert set(stored) == {"a" + KEPT, "a" + VALUES}
    with pytest.raises(ValueError, match=r"a\.values is \(7,\), and 8 bits are set"):
        with_zeros({**stored, "a" + VALUES: stored["a" + VALUES][:-1]})
    with pytest.raises(ValueError, match=r"a\.values is missing"):
        with_zeros({"a" + KEPT: stored["a" + KEPT]})
    with pytest.raises(ValueError, match="no rows of bits"):
        with_zeros({**stored, "a" + KEPT: stored["a" + KEPT].astype(np.float32)})


def test_bytes_in_the_wrong_place_are_refused() -> None:
    features = ArtifactSettings().features
    small = compressed(made_towers().weights(), int8=True, share=0.0)
    broken: list[tuple[str, Any]] = [
        (ENTERING, small.arrays[ENTERING].astype(np.float32)),
        (ENTERING, small.arrays[ENTERING][:-1]),
        (ENTERING + ".scale", small.arrays[ENTERING + ".scale"][:-1]),
        ("everyone", small.arrays["everyone"].astype(np.int8)),
    ]
    sizes = VOCABULARY.item_count, VOCABULARY.category_count, features
    small.check(*sizes)
    for name, array in broken:
        with pytest.raises(ArtifactError, match=f"{name} is .*, such towers have"):
            replace(small, arrays={**small.arrays, name: array}).check(*sizes)


@pytest.fixture(scope="module")
def store(walk_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the store of towers that the command has trained."""
    folder = tmp_path_factory.mktemp("towers")
    (folder / "fast.toml").write_text(FAST)
    given = ["--data-path", walk_csv, "--save-dir", folder, "--config", folder / "fast.toml", "--epochs", 6]
    found = CliRunner().invoke(train.main, list(map(str, given)))
    assert found.exit_code == 0, found.output
    return folder


def run(walk_csv: Path, store: Path, *arguments: object) -> Any:
    given = ["--artifact", store, "--data-path", walk_csv, *arguments]
    return CliRunner().invoke(compress.main, list(map(str, given)))


@pytest.mark.parametrize("how", [("--int8",), ("--prune", 0.3), ("--int8", "--prune", 0.3)])
def test_command_publishes_what_is_smaller_and_ranks_nearly_as_well(
    walk_csv: Path, store: Path, tmp_path: Path, how: tuple[object, ...]
) -> None:
    before = load(store)
    found = run(walk_csv, store, *how, "--max-loss", 0.2, "--save-dir", tmp_path)
    assert found.exit_code == 0, found.output
    small = load(tmp_path)
    assert f"version {small.version}, publication 1" in found.stdout
    assert small.training["compressed"]["from"] == before.version
    small.check_golden()
    sizes = [sum(file.stat().st_size for file in each.path.iterdir()) for each in (before, small)]
    assert sizes[1] < 0.95 * sizes[0]
    np.testing.assert_array_equal(load_item_vectors(tmp_path).vectors, small.item_vectors)
    ours, theirs = small.item_vectors, before.item_vectors
    cosine = (ours * theirs).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)
    assert cosine.min() > 0.8 and cosine.mean() > 0.97
    shown = CliRunner().invoke(evaluate.main, ["--artifact", str(tmp_path), "--data-path", str(walk_csv)])
    assert shown.exit_code == 0, shown.output
    held_out = small.training["held_out_version"]
    assert f"model {held_out}" in shown.stdout and held_out != before.training["held_out_version"]
    figures = re.search(r"^ndcg@10 +(0\.\d{4}) +(0\.\d{4})$", found.stdout, re.MULTILINE)
    assert figures and figures[1] == f"{before.metrics['test']['ndcg_at_10']:.4f}"
    lost = re.search(r"falls by (-?0\.\d{4}) \+- 0\.\d{4}", found.stdout)
    assert lost and float(lost[1]) == pytest.approx(float(figures[1]) - float(figures[2]), abs=2e-4)
    assert load(store).version == before.version  # of the store that it came from nothing has changed


def test_a_compressed_model_goes_on_learning_as_plain_towers(
    walk_csv: Path, store: Path, tmp_path: Path
) -> None:
    assert run(walk_csv, store, "--int8", "--max-loss", 1, "--save-dir", tmp_path).exit_code == 0
    lines = walk_csv.read_text().splitlines(keepends=True)
    later = tmp_path / "later.csv"
    later.write_text("".join([*lines, "user#1,item-3é,1,,c1,2024-08-01 00:00:00\n"]))
    given = ["--data-path", later, "--continue-from", tmp_path, "--save-dir", tmp_path / "on"]
    found = CliRunner().invoke(train.main, list(map(str, given)))
    assert found.exit_code == 0, found.output
    on = load(tmp_path / "on")
    assert ENTERING not in on.model.weights.arrays  # type: ignore[attr-defined]
    assert "compressed" not in on.training


def test_what_loses_too_much_is_not_published(walk_csv: Path, store: Path) -> None:
    there = sorted(store.iterdir())
    found = run(walk_csv, store, "--prune", 0.97, "--max-loss", 0.001)
    assert found.exit_code == 1
    assert re.search(
        r"Error: NDCG@10 falls by 0\.\d{4}, and --max-loss is 0.001: nothing is published", found.output
    )
    assert sorted(store.iterdir()) == there


def test_what_cannot_be_compressed_is_one_line(walk_csv: Path, store: Path, tmp_path: Path) -> None:
    assert run(walk_csv, store, "--int8", "--max-loss", 1, "--save-dir", tmp_path / "small").exit_code == 0
    given = ["--data-path", walk_csv, "--model", "mf", "--save-dir", tmp_path / "mf"]
    assert CliRunner().invoke(train.main, list(map(str, given))).exit_code == 0
    cases = [
        ("nothing is to be compressed", 2, run(walk_csv, store)),
        ("--prune is 1.0", 2, run(walk_csv, store, "--prune", 1)),
        ("--max-loss is -1.0", 2, run(walk_csv, store, "--int8", "--max-loss", -1)),
        ("is compressed already, from", 2, run(walk_csv, tmp_path / "small", "--int8")),
        ("has no dual towers", 1, run(walk_csv, tmp_path / "mf", "--int8")),
    ]
    for message, status, found in cases:
        assert found.exit_code == status, found.output
        assert message in found.output and "Traceback" not in found.output
        assert len(found.output.split("Error: ")[1].splitlines()) == 1
