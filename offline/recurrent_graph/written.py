"""A network as the arrays that are served: every node as its neighbours have made it."""

from collections.abc import Callable
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from models.arrays import Floats
from models.recurrent_graph.recurrent_graph_model import RecurrentGraphModel
from models.recurrent_graph.weights import RecurrentGraphWeights
from offline.recurrent_graph.item_graph import ItemGraph, Neighbourhood
from offline.recurrent_graph.network import Messages, RecurrentGraph

#: Nodes that are made at a time.
AT_ONCE = 8_192


def written_model(
    network: RecurrentGraph, graph: ItemGraph, messages: Callable[[Neighbourhood], Messages]
) -> RecurrentGraphModel:
    """Return the model of a network and a graph; `messages` makes tensors of a neighbourhood."""
    network.eval()
    with torch.inference_mode():
        entering, nodes = _made(network, graph, messages)
        arrays = {
            "entering": entering,
            "node": np.concatenate([nodes, _array(network.start)[None]]),
            "item_bias": _array(network.item_bias),
            "behaviour": _array(network.behaviour.weight),
            "pause": _array(network.pause.weight),
            **_cell(network.cell),
            **_fold(network),
            "gate": _array(network.gate.weight.T),
            "gate_bias": _array(network.gate.bias),
        }
    return RecurrentGraphModel(RecurrentGraphWeights.of_arrays(arrays), network.settings)


def _made(
    network: RecurrentGraph, graph: ItemGraph, messages: Callable[[Neighbourhood], Messages]
) -> tuple[Floats, Floats]:
    """Return the nodes (N, D) before and after their step."""
    entering, nodes = [], []
    everything = np.arange(len(graph.starts) - 1)
    for begin in range(0, len(everything), AT_ONCE):
        around = graph.around(everything[begin : begin + AT_ONCE])
        of = messages(around)
        before = network.entering(of.nodes)
        entering.append(_array(before)[around.wanted])
        nodes.append(_array(network.after_messages(before, of))[around.wanted])
    return np.concatenate(entering), np.concatenate(nodes)


def _cell(cell: nn.Module) -> dict[str, Floats]:
    state = {name: cast(Tensor, value) for name, value in cell.state_dict().items()}
    return {
        "of_input": _array(state["weight_ih_l0"].T),
        "input_bias": _array(state["bias_ih_l0"]),
        "of_state": _array(state["weight_hh_l0"].T),
        "state_bias": _array(state["bias_hh_l0"]),
    }


def _fold(network: RecurrentGraph) -> dict[str, Floats]:
    state = network.to_user.state_dict()
    found = {"fold": _array(state["lin.weight"].T), "fold_bias": _array(state["bias"])}
    for ours, theirs in (("of_source", "att_src"), ("of_target", "att_dst")):
        found[ours] = _array(state[theirs][0]) if theirs in state else np.zeros((0, 0), np.float32)
    return found


def _array(values: Tensor) -> Floats:
    """Return values as an array of its own."""
    found: Floats = values.detach().float().cpu().contiguous().numpy()
    return found.copy()
