"""`python -m offline.adopt`: what holds to the contract is published, each fault is one line."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet
import pytest
from click.testing import CliRunner, Result
from onnx import external_data_helper, helper

from models.artifact import artifact as artifacts
from models.artifact.artifact import Artifact
from models.errors import ArtifactError
from models.windows.histories import histories_of_windows
from models.windows.window import Window, window_to_bytes
from offline.adopt import main
from offline.adopting.run import Given
from tests.tiny_encoder import DIMENSION, ITEMS, TABLE, TinyEncoder, by_hand

HOUR_MS = 3_600_000


def adopt(given: Given, store: Path, *options: str, padding: str = "left") -> Result:
    files = {"encoder": given.encoder, "items": given.items, "vocabulary": given.vocabulary}
    arguments = [text for name, file in files.items() for text in (f"--{name}", str(file))]
    return CliRunner().invoke(main, [*arguments, "--padding", padding, "--out", str(store), *options])


@pytest.fixture(params=["left", "right"])
def adopted(tmp_path: Path, request: pytest.FixtureRequest) -> Artifact:
    """Give the artifact of the encoder as it should be."""
    done = adopt(TinyEncoder().write(tmp_path), tmp_path / "artifacts", padding=request.param)
    assert done.exit_code == 0, done.output
    found = artifacts.load(tmp_path / "artifacts")
    assert done.stdout.splitlines()[-1] == f"version {found.version}, publication {found.publication}"
    return found


def window(items: list[str], times_ms: list[int]) -> bytes:
    ones = [1] * len(items)
    return window_to_bytes(Window("", 0, 0, len(items), 0, 0, times_ms, ones, items, [""] * len(items), ones))


def test_vectors_are_those_of_the_encoder_whoever_is_encoded_together(adopted: Artifact) -> None:
    users = []
    for events in (0, 1, 2, 5, 9, 30, 110):
        items = [f"i{(events + number) * 13 % 71}" for number in range(events)]  # every seventh is unknown
        users.append((items, [1_417_000_000_000 + number * 700_000 for number in range(events)]))
    expected = np.array([by_hand(*user) for user in users])
    windows = [window(*user) for user in users]
    together = adopted.encode(histories_of_windows(windows, adopted.vocabulary)).user
    np.testing.assert_allclose(together, expected, atol=1e-5)
    for place, each in enumerate(windows):
        alone = adopted.encode(histories_of_windows([each], adopted.vocabulary)).user
        np.testing.assert_allclose(alone, expected[[place]], atol=1e-5)
    adopted.check_golden()
    np.testing.assert_array_equal(adopted.item_vectors, TABLE[1:])


def test_what_needs_dual_towers_says_so_in_one_line(adopted: Artifact) -> None:
    with pytest.raises(ArtifactError, match="was adopted"):
        _ = adopted.towers


def test_same_files_make_the_same_version(adopted: Artifact, tmp_path: Path) -> None:
    side = json.loads((adopted.path / "config.json").read_text())["onnx"]["padding"]
    given = TinyEncoder().write(tmp_path / "again")
    assert adopted.version in adopt(given, tmp_path / "other", padding=side).stdout


def test_weights_beside_the_graph_come_into_the_artifact(tmp_path: Path) -> None:
    given = TinyEncoder().write(tmp_path)
    model = onnx.load(str(given.encoder))
    external_data_helper.convert_model_to_external_data(model, location="weights.data", size_threshold=100)
    onnx.save(model, str(given.encoder))
    assert adopt(given, tmp_path / "artifacts").exit_code == 0
    (tmp_path / "weights.data").unlink()
    artifacts.load(tmp_path / "artifacts").check_golden()


def test_only_the_behaviours_that_are_named_are_read(tmp_path: Path) -> None:
    encoder = TinyEncoder(vocabulary={"items": ITEMS, "behaviours": {"buy": 7}})
    assert adopt(encoder.write(tmp_path), tmp_path / "artifacts").exit_code == 0
    found, ones = artifacts.load(tmp_path / "artifacts"), [1] * 3
    value = window_to_bytes(
        Window("", 0, 0, 3, 0, 0, [0, HOUR_MS, 2 * HOUR_MS], [4, 4, 1], ["i1", "i2", "i3"], [""] * 3, ones)
    )
    vector = found.encode(histories_of_windows([value], found.vocabulary)).user[0]
    np.testing.assert_allclose(vector, by_hand(["i1", "i2"], [0, HOUR_MS]), atol=1e-6)


# -- faults, each of which one line names


def without_item(encoder: TinyEncoder) -> None:
    encoder.inputs["items"] = encoder.inputs.pop("item")
    encoder.nodes.insert(0, helper.make_node("Identity", ["items"], ["item"]))


def with_another_input(encoder: TinyEncoder) -> None:
    encoder.inputs["weather"] = ["users", "places"]


def without_user(encoder: TinyEncoder) -> None:
    encoder.outputs["vector"] = encoder.outputs.pop("user")
    encoder.nodes.append(helper.make_node("Identity", ["user"], ["vector"]))


def with_a_category_that_nobody_numbers(encoder: TinyEncoder) -> None:
    encoder.inputs["category"] = ["users", "places"]


def of_one_user(encoder: TinyEncoder) -> None:
    encoder.inputs = {name: [1, "places"] for name in encoder.inputs}


def of_every_place(encoder: TinyEncoder) -> None:
    encoder.replace_node("user", helper.make_node("Identity", ["wx"], ["user"]))
    encoder.outputs["user"] = ["users", "places", DIMENSION]


def of_other_items(encoder: TinyEncoder) -> None:
    encoder.vectors = np.ones((len(ITEMS), DIMENSION + 1), np.float32)


def with_infinite_items(encoder: TinyEncoder) -> None:
    encoder.vectors[3, 2] = np.inf


def dividing_by_no_events(encoder: TinyEncoder) -> None:
    encoder.replace_node("share", helper.make_node("Identity", ["weights"], ["share"]))


def dividing_by_zero(encoder: TinyEncoder) -> None:
    encoder.replace_node("share", helper.make_node("Sub", ["share0", "share0"], ["share"]))
    encoder.nodes.insert(-2, helper.make_node("Add", ["weights", "one"], ["share0"]))


def counting_padding(encoder: TinyEncoder) -> None:
    encoder.replace_node("w", helper.make_node("Div", ["one", "older"], ["w"]))


def by_chance(encoder: TinyEncoder) -> None:
    encoder.replace_node("user", helper.make_node("Mul", ["whole", "noise"], ["user"]))
    encoder.nodes.insert(-1, helper.make_node("Div", ["total", "share"], ["whole"]))
    encoder.nodes.insert(-1, helper.make_node("RandomUniformLike", ["whole"], ["noise"], dtype=1))


def minding_the_others(encoder: TinyEncoder) -> None:
    encoder.constants["users"] = np.array([0], np.int64)
    encoder.replace_node("user", helper.make_node("Sub", ["whole", "mean"], ["user"]))
    encoder.nodes.insert(-1, helper.make_node("Div", ["total", "share"], ["whole"]))
    encoder.nodes.insert(-1, helper.make_node("ReduceMean", ["whole"], ["mean"], axes=[0], keepdims=1))


def of_an_unknown_operator(encoder: TinyEncoder) -> None:
    encoder.replace_node("user", helper.make_node("Magic", ["total", "share"], ["user"], domain="shop"))


def with_too_few_embeddings(encoder: TinyEncoder) -> None:
    encoder.constants["table"] = TABLE[:40]


def reading_nothing(encoder: TinyEncoder) -> None:
    encoder.constants["table"] = np.ones_like(TABLE)
    encoder.replace_node("user", helper.make_node("Sub", ["total", "total"], ["user"]))


def with_an_item_less(encoder: TinyEncoder) -> None:
    encoder.vocabulary = {"items": {name: index for name, index in ITEMS.items() if name != "i8"}}


def with_an_item_more(encoder: TinyEncoder) -> None:
    encoder.vocabulary = {"items": {**ITEMS, "i777": 61}}


def with_an_item_as_padding(encoder: TinyEncoder) -> None:
    encoder.vocabulary = {"items": {**ITEMS, "i8": 0}}


def with_a_word_for_an_index(encoder: TinyEncoder) -> None:
    encoder.vocabulary = {"items": {**ITEMS, "i8": "eight"}}


def with_another_behaviour(encoder: TinyEncoder) -> None:
    encoder.vocabulary = {"items": ITEMS, "behaviours": {"look": 1}}


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (without_item, "has no input `item`, only age_s, items"),
        (with_another_input, "has an input `weather`, which nothing fills"),
        (without_user, "has no output `user`, only vector"),
        (with_a_category_that_nobody_numbers, "the vocabulary names no categories"),
        (of_one_user, "takes 1 users at a time"),
        (of_every_place, "`user` has 3 axes"),
        (of_other_items, "`user` has 8 dimensions, the items have 9"),
        (with_infinite_items, "the vector of item 'i4' holds NaN or inf"),
        (dividing_by_no_events, "NaN or inf for a user without events: give them the mean"),
        (dividing_by_zero, "NaN or inf for a history of"),
        (counting_padding, "depends on how much padding there is"),
        (by_chance, "or on chance"),
        (minding_the_others, "depends on who else is encoded"),
        (of_an_unknown_operator, "Magic"),
        (with_too_few_embeddings, "fails for histories of up to"),
        (reading_nothing, "no user's newest item changes their vector"),
        (with_an_item_less, "1 of those with a vector are not in the vocabulary, such as 'i8'"),
        (with_an_item_more, "1 of the vocabulary's have no vector, such as 'i777'"),
        (with_an_item_as_padding, "item 'i8' has the index of padding"),
        (with_a_word_for_an_index, "Expected `int`, got `str`"),
        (with_another_behaviour, "'look' is no behaviour"),
    ],
)
def test_fault_is_one_line_and_nothing_is_written(
    tmp_path: Path, fault: Callable[[TinyEncoder], None], said: str
) -> None:
    encoder = TinyEncoder()
    fault(encoder)
    done = adopt(encoder.write(tmp_path), tmp_path / "artifacts")
    (line,) = done.stderr.splitlines()
    assert (done.exit_code, said in line, done.stdout) == (1, True, ""), done.output
    assert not (tmp_path / "artifacts").exists()


def test_nobody_without_events_may_be_a_fault_that_the_mean_mends(tmp_path: Path) -> None:
    encoder = TinyEncoder()
    dividing_by_no_events(encoder)
    done = adopt(encoder.write(tmp_path), tmp_path / "artifacts", "--cold-start", "mean")
    assert done.exit_code == 0, done.output
    found = artifacts.load(tmp_path / "artifacts")
    (vector,) = found.encode(histories_of_windows([window([], [])], found.vocabulary)).user
    np.testing.assert_allclose(vector, TABLE[1:].mean(axis=0), atol=1e-6)


def test_vectors_that_depend_on_padding_are_right_at_the_width_they_were_trained_with(tmp_path: Path) -> None:
    encoder = TinyEncoder()
    counting_padding(encoder)
    done = adopt(encoder.write(tmp_path), tmp_path / "artifacts", "--width", "50")
    assert done.exit_code == 0, done.output
    found = artifacts.load(tmp_path / "artifacts")
    vector = found.encode(histories_of_windows([window(["i1"], [0])], found.vocabulary)).user[0]
    np.testing.assert_allclose(vector, TABLE[1] / (1 + 50), atol=1e-6)


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("encoder", b"no graph", "cannot be run by onnxruntime"),
        ("items", b"no table", "cannot be read as Parquet"),
        ("vocabulary", b"no json", "it must be JSON like"),
    ],
)
def test_file_that_is_something_else_is_one_line(
    tmp_path: Path, file: str, content: bytes, said: str
) -> None:
    given = TinyEncoder().write(tmp_path)
    getattr(given, file).write_bytes(content)
    done = adopt(given, tmp_path / "artifacts")
    (line,) = done.stderr.splitlines()
    assert (done.exit_code, said in line) == (1, True), line


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"item": ["i1"], "vec": [[1.0]]}, "has no column item_id"),
        ({"item_id": ["i1"], "vec": [1.0]}, "it must be lists of numbers"),
        ({"item_id": ["i1", "i2"], "vec": [[1.0], [1.0, 2.0]]}, "item 'i2' 2"),
        ({"item_id": ["i1", "i1"], "vec": [[1.0], [1.0]]}, "item 'i1' is there 2 times"),
        ({"item_id": ["i1", None], "vec": [[1.0], [1.0]]}, "column item_id has 1 nulls"),
    ],
)
def test_items_that_cannot_be_used_are_one_line(
    tmp_path: Path, columns: dict[str, list[object]], said: str
) -> None:
    given = TinyEncoder().write(tmp_path)
    pyarrow.parquet.write_table(pa.table(columns), given.items)
    (line,) = adopt(given, tmp_path / "artifacts").stderr.splitlines()
    assert said in line
