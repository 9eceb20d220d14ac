"""Recurrent encoders beside a graph, of random numbers, for the suites that hold for every model."""

import numpy as np

from models.ages import AGE_BUCKETS
from models.arrays import Floats
from models.ids.vocabulary import Vocabulary
from models.recurrent_graph.recurrent_graph_model import RecurrentGraphModel
from models.recurrent_graph.settings import RecurrentGraphSettings
from models.recurrent_graph.weights import RecurrentGraphWeights


def made_graph(settings: RecurrentGraphSettings, vocabulary: Vocabulary) -> RecurrentGraphModel:
    """Return a model of the settings' form over the items of a vocabulary."""
    random = np.random.default_rng(0)

    def values(*shape: int) -> Floats:
        return random.normal(0, 0.5, shape).astype(np.float32)

    items, wide, gates = len(vocabulary.item_ids), settings.dimension, settings.gates * settings.dimension
    nodes = items + vocabulary.category_count
    heads = (settings.heads, wide // settings.heads) if settings.graph == "gat" else (0, 0)
    weights = RecurrentGraphWeights(
        entering=values(nodes, wide),
        node=values(nodes + 1, wide),
        item_bias=values(items),
        behaviour=values(5, wide),
        pause=values(AGE_BUCKETS, wide),
        of_input=values(wide, gates),
        input_bias=values(gates),
        of_state=values(wide, gates),
        state_bias=values(gates),
        fold=values(wide, wide),
        fold_bias=values(wide),
        of_source=values(*heads),
        of_target=values(*heads),
        gate=values(3 * wide, wide),
        gate_bias=values(wide),
    )
    return RecurrentGraphModel(weights, settings)
