"""Histories -> vectors by a recurrent encoder and a step in the graph of items, joined by a gate."""

from collections.abc import Sequence

import numpy as np

from models.arrays import Floats, Ints
from models.encoder import Vectors
from models.recurrent_graph.cells import gru, lstm
from models.recurrent_graph.events import ReadEvents, newest_events
from models.recurrent_graph.folding import fold_gat, fold_gcn
from models.recurrent_graph.settings import RecurrentGraphSettings
from models.recurrent_graph.weights import RecurrentGraphWeights
from models.windows.histories import Histories

#: Users that are encoded at a time.
AT_ONCE = 512


class RecurrentGraphEncoder:
    """Encodes with a recurrent encoder beside a graph; a `models.encoder.UserEncoder`."""

    def __init__(self, weights: RecurrentGraphWeights, settings: RecurrentGraphSettings) -> None:
        self.dimension = settings.dimension + 1
        self.made = {"user": 0}
        self.reads_live = False
        self._weights = weights
        self._settings = settings
        self._items = len(weights.item_bias)
        self._of_state = np.ascontiguousarray(weights.of_state)

    def encode(self, histories: Histories, user_ids: Sequence[str] = ()) -> Vectors:
        """Return the vectors of B users; see `UserEncoder.encode`. Nothing is kept of any user."""
        user = np.ones((len(histories), self.dimension), np.float32)
        for begin in range(0, len(histories), AT_ONCE):
            some = slice(begin, min(begin + AT_ONCE, len(histories)))
            events = newest_events(histories.part(some), self._settings.read_events, self._items)
            user[some, :-1] = self._joined(events)
        self.made["user"] += len(histories)
        nothing = np.zeros((len(histories), 0), np.float32)
        return Vectors(user, nothing, nothing)

    def forget(self) -> None:
        """Do nothing: nothing is kept."""

    def _joined(self, events: ReadEvents) -> Floats:
        """Return (B, D): g x + (1 - g) y with g = sigma(W1 x + W2 y + W3 z + b).

        x is the cell's last state, y the user's node after its step in the graph, z before it.
        """
        state = self._state(events)
        rows = np.insert(events.node, np.cumsum(events.counts), -1)  # behind each user's events the own node
        ends = np.cumsum(events.counts + 1)
        rows[(ends - 1)[events.counts > 0]] = rows[(ends - 2)[events.counts > 0]]
        nodes = self._weights.node[rows]  # (E + B, D)
        folded = self._folded(nodes, ends)
        joined = np.hstack([state, folded, nodes[ends - 1]])
        gate = 1 / (1 + np.exp(-(joined @ self._weights.gate + self._weights.gate_bias)))
        found: Floats = gate * state + (1 - gate) * folded
        return found

    def _state(self, events: ReadEvents) -> Floats:
        weights = self._weights
        entering: Floats = weights.entering[events.node] + weights.behaviour[events.behaviour]
        entering += weights.pause[events.pause]
        products = entering @ weights.of_input + weights.input_bias  # (E, G D)
        longest = np.argsort(-events.counts, kind="stable")
        cell = gru if self._settings.recurrent == "gru" else lstm
        firsts, counts = events.firsts[longest], events.counts[longest]
        states = np.empty((len(longest), self._settings.dimension), np.float32)
        states[longest] = cell(products, self._of_state, weights.state_bias, firsts, counts)
        return states

    def _folded(self, nodes: Floats, ends: Ints) -> Floats:
        weights = self._weights
        if self._settings.graph == "gcn":
            return np.tanh(fold_gcn(nodes, ends, weights.fold, weights.fold_bias))
        of = (weights.fold, weights.fold_bias, weights.of_source, weights.of_target)
        return np.tanh(fold_gat(nodes, ends, *of))
