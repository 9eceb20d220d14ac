"""A small encoder as another library would export it, with items and a vocabulary: whole, or with a fault."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet
from onnx import TensorProto, helper, numpy_helper

from models.arrays import Floats
from offline.adopting.run import Given

DIMENSION = 8
#: What the encoder's library calls its items: raw id -> its index. 0 is padding.
ITEMS = {f"i{item}": 1 + place for place, item in enumerate(item for item in range(70) if item % 7)}

#: Lengths of axes; a name for one that is free.
Axes = list[str | int | None]

_INT64, _FLOAT = TensorProto.INT64, TensorProto.FLOAT


def _table() -> Floats:
    table = np.random.default_rng(0).normal(size=(len(ITEMS) + 1, DIMENSION)).astype(np.float32)
    table[0] = 0
    return table


TABLE: Floats = _table()


def by_hand(items: Sequence[str], times_ms: Sequence[int]) -> Floats:
    """Return the vector (D,) that the encoder should give, in plain Python: recent items weigh more."""
    known = [(ITEMS[item], time_ms) for item, time_ms in zip(items, times_ms, strict=True) if item in ITEMS]
    total, weights = np.zeros(DIMENSION), 0.0
    for index, time_ms in known:
        weight = 1 / (1 + (known[-1][1] - time_ms) // 1000 / 3600)
        total, weights = total + weight * TABLE[index], weights + weight
    return (total / (1 + weights)).astype(np.float32)


def _nodes() -> list[onnx.NodeProto]:
    """Return a graph that gives sum(w x) / (1 + sum(w)) with w = 1 / (1 + age in hours), 0 where padded."""
    return [
        helper.make_node("Gather", ["table", "item"], ["x"]),
        helper.make_node("Equal", ["item", "zero"], ["is_padding"]),
        helper.make_node("Not", ["is_padding"], ["is_real"]),
        helper.make_node("Cast", ["is_real"], ["real"], to=_FLOAT),
        helper.make_node("Cast", ["age_s"], ["age"], to=_FLOAT),
        helper.make_node("Div", ["age", "hour"], ["hours"]),
        helper.make_node("Add", ["hours", "one"], ["older"]),
        helper.make_node("Div", ["real", "older"], ["w"]),
        helper.make_node("Unsqueeze", ["w", "last"], ["w3"]),
        helper.make_node("Mul", ["x", "w3"], ["wx"]),
        helper.make_node("ReduceSum", ["wx", "events"], ["total"], keepdims=0),
        helper.make_node("ReduceSum", ["w3", "events"], ["weights"], keepdims=0),
        helper.make_node("Add", ["weights", "one"], ["share"]),
        helper.make_node("Div", ["total", "share"], ["user"]),
    ]


@dataclass
class TinyEncoder:
    """What is written; a test makes one thing of it wrong."""

    nodes: list[onnx.NodeProto] = field(default_factory=_nodes)
    constants: dict[str, "np.typing.NDArray[np.generic]"] = field(
        default_factory=lambda: {
            "table": TABLE,
            "zero": np.array(0, np.int64),
            "one": np.array(1, np.float32),
            "hour": np.array(3600, np.float32),
            "last": np.array([-1], np.int64),
            "events": np.array([1], np.int64),
        }
    )
    inputs: dict[str, Axes] = field(
        default_factory=lambda: {"item": ["users", "places"], "age_s": ["users", "places"]}
    )
    outputs: dict[str, Axes] = field(default_factory=lambda: {"user": ["users", DIMENSION]})
    vectors: Floats = field(default_factory=lambda: TABLE[1:].copy())
    vocabulary: dict[str, object] = field(default_factory=lambda: {"items": ITEMS})

    def replace_node(self, output: str, node: onnx.NodeProto) -> None:
        """Make an output, and the graph's below it, in another way."""
        self.nodes = [node if output in each.output else each for each in self.nodes]

    def write(self, folder: Path) -> Given:
        """Write the three files."""
        folder.mkdir(parents=True, exist_ok=True)
        graph = helper.make_graph(
            self.nodes,
            "tiny",
            [helper.make_tensor_value_info(name, _INT64, axes) for name, axes in self.inputs.items()],
            [helper.make_tensor_value_info(name, _FLOAT, axes) for name, axes in self.outputs.items()],
            [numpy_helper.from_array(value, name) for name, value in self.constants.items()],
        )
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("shop", 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
        (folder / "encoder.onnx").write_bytes(model.SerializeToString())
        ids = list(ITEMS)
        table = {
            "item_id": ids,
            "vec": pa.array([row.tolist() for row in self.vectors], pa.list_(pa.float32())),
            "category": [f"c{int(each[1:]) % 3}" for each in ids],
        }
        pyarrow.parquet.write_table(pa.table(table), folder / "items.parquet")
        (folder / "vocabulary.json").write_text(json.dumps(self.vocabulary))
        return Given(folder / "encoder.onnx", folder / "items.parquet", folder / "vocabulary.json")


#: Makes one thing wrong.
Fault = Callable[[TinyEncoder], None]
