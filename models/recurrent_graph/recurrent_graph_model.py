"""A recurrent encoder beside a graph of items as a model (models/encoder.py)."""

from collections.abc import Mapping
from dataclasses import asdict

import numpy as np
import safetensors.numpy

from models.arrays import Floats
from models.model_files import RECURRENT_GRAPH, WEIGHTS
from models.recurrent_graph.recurrent_graph_encoder import RecurrentGraphEncoder
from models.recurrent_graph.settings import RecurrentGraphSettings
from models.recurrent_graph.weights import RecurrentGraphWeights


class RecurrentGraphModel:
    """Nodes as the graph has made them, and what folds a user in."""

    def __init__(self, weights: RecurrentGraphWeights, settings: RecurrentGraphSettings) -> None:
        self.weights = weights
        self.settings = settings

    def on_cpu(self, kept_vectors: int = 0) -> RecurrentGraphEncoder:
        """Return its encoder, which keeps nothing."""
        return RecurrentGraphEncoder(self.weights, self.settings)

    def on_gpu(self, bfloat16: bool, kept_vectors: int) -> None:
        """Return None: it has no encoder on a GPU."""

    def item_vectors(self) -> Floats:
        """Return (I, D + 1), the vectors of the known items in the order of the vocabulary."""
        return self.weights.vectors()

    def files(self) -> Mapping[str, bytes]:
        """Return the weights."""
        arrays = {name: np.ascontiguousarray(array) for name, array in self.weights.arrays().items()}
        return {WEIGHTS: safetensors.numpy.save(arrays)}

    def description(self) -> Mapping[str, object]:
        """Return the kind, and its settings."""
        return {"encoder": RECURRENT_GRAPH, RECURRENT_GRAPH: asdict(self.settings)}
