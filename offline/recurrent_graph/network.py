"""The network that learns: items' vectors, a step between items, a cell, a step to the user, and the gate.

Letters: K nodes at hand, B stretches, T events of the longest, M targets, D dimension.
"""

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from models.ages import AGE_BUCKETS
from models.arrays import Ints
from models.recurrent_graph.settings import RecurrentGraphSettings
from models.recurrent_graph.weights import BEHAVIOURS
from offline.recurrent_graph.geometric import convolutions

#: Spread of vectors before they have learned anything.
FIRST_SPREAD = 0.1


class Messages(NamedTuple):
    """Nodes (K,), edges (2, E) between their places, and the edges' weights (E,), which GCN alone reads."""

    nodes: Tensor
    edges: Tensor
    weight: Tensor


class Read(NamedTuple):
    """What B stretches read, (B, T) each, right-padded: node is a place among the nodes at hand."""

    node: Tensor
    behaviour: Tensor
    pause: Tensor


class Asked(NamedTuple):
    """M targets: the stretch (M,), and how many of its events, length (M,), make the user.

    edges (2, E): from a stretch's event, as its place in the flattened (B * T), to each target that reads it.
    """

    stretch: Tensor
    length: Tensor
    edges: Tensor


class RecurrentGraph(nn.Module):
    """Makes items' vectors and users' vectors; the score is their dot product and the item's bias."""

    node_item: Tensor
    node_category: Tensor

    def __init__(
        self, item: Ints, category: Ints, items: int, settings: RecurrentGraphSettings, dropout: float
    ) -> None:
        """item, category (N,): by which vocabulary indices a node is known, its item's and its category's.

        items: how many are known; they are the first nodes.
        """
        super().__init__()
        width = settings.dimension
        self.settings = settings
        self.register_buffer("node_item", torch.from_numpy(item))
        self.register_buffer("node_category", torch.from_numpy(category))
        self.item = nn.Embedding(int(item.max()) + 1, width)
        self.category = nn.Embedding(int(category.max()) + 1, width)
        self.behaviour = nn.Embedding(BEHAVIOURS, width, padding_idx=0)
        self.pause = nn.Embedding(AGE_BUCKETS, width)
        for table in (self.item, self.category, self.behaviour, self.pause):
            nn.init.normal_(table.weight, 0, FIRST_SPREAD)
        self.start = nn.Parameter(torch.empty(width).normal_(0, FIRST_SPREAD))
        self.item_bias = nn.Parameter(torch.zeros(items))
        self.between_items, self.to_user = _convolution(settings, loops=False), _convolution(settings)
        self.cell = (nn.GRU if settings.recurrent == "gru" else nn.LSTM)(width, width, batch_first=True)
        self.gate = nn.Linear(3 * width, width)  # W1, W2, W3 side by side, and b
        self.dropout = nn.Dropout(dropout)

    def entering(self, nodes: Tensor) -> Tensor:
        """Return the vectors (K, D) of nodes by themselves."""
        found = self.item(self.node_item[nodes]) + self.category(self.node_category[nodes])
        return cast(Tensor, self.dropout(found))

    def after_messages(self, entering: Tensor, messages: Messages) -> Tensor:
        """Return the vectors (K, D) of nodes: their own, and what one step in the graph adds."""
        of_gcn = (messages.weight,) if self.settings.graph == "gcn" else ()
        return entering + cast(Tensor, self.between_items(entering, messages.edges, *of_gcn))

    def users(self, entering: Tensor, nodes: Tensor, read: Read, asked: Asked) -> Tensor:
        """Return (M, D): g x + (1 - g) y with g = sigma(W1 x + W2 y + W3 z + b).

        entering, nodes (K, D): nodes before and after the step between items. x is the cell's state, y the
        user's node after its step in the graph, z before it: the newest event's item.
        """
        events = entering[read.node] + self.behaviour(read.behaviour) + self.pause(read.pause)
        states, _ = self.cell(events)  # (B, T, D)
        x = _at(states, asked)
        z = _at(nodes[read.node], asked, self.start)
        y = torch.tanh(self._folded(nodes[read.node].flatten(0, 1), z, asked.edges))
        g = torch.sigmoid(self.gate(torch.cat([x, y, z], dim=1)))
        return g * x + (1 - g) * y

    def _folded(self, events: Tensor, own: Tensor, edges: Tensor) -> Tensor:
        """Return the users' nodes (M, D) after a step from events (B * T, D), to own (M, D) before it."""
        both = torch.cat([events, own])
        shifted = torch.stack([edges[0], edges[1] + len(events)])
        return cast(Tensor, self.to_user(both, shifted)[len(events) :])


def _convolution(settings: RecurrentGraphSettings, loops: bool = True) -> nn.Module:
    """Return a step in a graph; `loops`: its edges lack each node's own loop, and GCN's weights."""
    width, kinds = settings.dimension, convolutions()
    if settings.graph == "gcn":
        return cast(nn.Module, kinds.gcn(width, width, normalize=loops, add_self_loops=loops))
    heads = settings.heads
    return cast(nn.Module, kinds.gat(width, width // heads, heads, add_self_loops=loops))


def _at(values: Tensor, asked: Asked, start: Tensor | None = None) -> Tensor:
    """Return of values (B, T, D) those (M, D) at each target's newest event; `start` (D,), or 0, without."""
    found = values[asked.stretch, (asked.length - 1).clamp(min=0)]
    begin = torch.zeros_like(found[:1]) if start is None else start
    return torch.where(asked.length[:, None] > 0, found, begin)
