"""What a recurrent encoder beside a graph has learned, as arrays."""

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np

from models.ages import AGE_BUCKETS
from models.arrays import Floats
from models.recurrent_graph.settings import RecurrentGraphSettings

#: Behaviours, padding at 0.
BEHAVIOURS = 5


@dataclass(frozen=True, slots=True)
class RecurrentGraphWeights:
    """The graph's N nodes are I known items, and one unknown item of each category index.

    entering (N, D): a node as it enters the cell; node (N + 1, D): as its neighbours have made it, and last
    the node of a user without events; item_bias (I,); behaviour, pause (., D): what is added to an event;
    of_input, of_state (D, G D), input_bias, state_bias (G D,): the cell's gates, in PyTorch's order; fold
    (D, D), fold_bias (D,): the user's step in the graph, and of GAT of_source, of_target (H, D / H), of GCN
    (0, 0); gate (3 D, D): W1, W2, W3 below each other, gate_bias (D,).
    """

    entering: Floats
    node: Floats
    item_bias: Floats
    behaviour: Floats
    pause: Floats
    of_input: Floats
    input_bias: Floats
    of_state: Floats
    state_bias: Floats
    fold: Floats
    fold_bias: Floats
    of_source: Floats
    of_target: Floats
    gate: Floats
    gate_bias: Floats

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, Floats]) -> "RecurrentGraphWeights":
        """Return the weights of `arrays()`. Raises KeyError where one is missing."""
        return cls(**{each.name: arrays[each.name] for each in fields(cls)})

    def arrays(self) -> dict[str, Floats]:
        """Return the weights by name."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    def check(self, items: int, categories: int, settings: RecurrentGraphSettings) -> None:
        """Raise ValueError where they are not of so many items and category indices, or of another form."""
        wide, gates = settings.dimension, settings.gates * settings.dimension
        heads = (settings.heads, wide // settings.heads) if settings.graph == "gat" else (0, 0)
        wanted: dict[str, tuple[int, ...]] = {
            "entering": (items + categories, wide),
            "node": (items + categories + 1, wide),
            "item_bias": (items,),
            "behaviour": (BEHAVIOURS, wide),
            "pause": (AGE_BUCKETS, wide),
            "of_input": (wide, gates),
            "input_bias": (gates,),
            "of_state": (wide, gates),
            "state_bias": (gates,),
            "fold": (wide, wide),
            "fold_bias": (wide,),
            "of_source": heads,
            "of_target": heads,
            "gate": (3 * wide, wide),
            "gate_bias": (wide,),
        }
        for name, array in self.arrays().items():
            if array.shape != wanted[name]:
                raise ValueError(f"{name} has the shape {array.shape}, where {wanted[name]} is wanted")

    def vectors(self) -> Floats:
        """Return (I, D + 1), the items' vectors; a user's last number is 1."""
        return np.hstack([self.node[: len(self.item_bias)], self.item_bias[:, None]])
