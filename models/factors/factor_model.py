"""A matrix factorisation as a model (models/encoder.py)."""

from collections.abc import Mapping
from dataclasses import asdict

import numpy as np
import safetensors.numpy

from models.arrays import Floats, Ints
from models.factors.factor_encoder import FactorEncoder
from models.factors.settings import FactorSettings
from models.factors.weights import FactorWeights
from models.model_files import FACTORS, WEIGHTS


class FactorModel:
    """Items' factors, and what an event means to them."""

    def __init__(self, weights: FactorWeights, settings: FactorSettings, categories: Ints) -> None:
        """categories (I,): the category index of each item."""
        self.weights = weights
        self.settings = settings
        self._categories = categories

    def on_cpu(self, kept_vectors: int = 0) -> FactorEncoder:
        """Return its encoder, which keeps nothing."""
        return FactorEncoder(self.weights, self.settings, self._categories)

    def on_gpu(self, bfloat16: bool, kept_vectors: int) -> None:
        """Return None: it has no encoder on a GPU."""

    def item_vectors(self) -> Floats:
        """Return (I, 2 + K), the vectors of the known items in the order of the vocabulary."""
        return self.weights.vectors()

    def files(self) -> Mapping[str, bytes]:
        """Return the weights."""
        arrays = {name: np.ascontiguousarray(array) for name, array in self.weights.arrays().items()}
        return {WEIGHTS: safetensors.numpy.save(arrays)}

    def description(self) -> Mapping[str, object]:
        """Return the kind, and its settings."""
        return {"encoder": FACTORS, FACTORS: asdict(self.settings)}
