"""The two towers' vectors -> the user's: gated, scaled, shifted by everyone's taste; needs no torch."""

import numpy as np

from models.arrays import Floats
from models.encoder import Vectors
from models.towers.settings import POPULARITY_UNIT, SHORTEST
from models.towers.weights import TowerWeights


class Mixing:
    """`DualTowers.mix` on plain arrays."""

    def __init__(self, weights: TowerWeights) -> None:
        self._score, self._rotation = weights.settings.score, weights.rotation
        (self._gate,), self._gate_shift = weights["gate.weight"], weights["gate.bias"]
        self._scale, self._everyone = np.exp(weights["temperature"]), weights["everyone"]

    def __call__(self, long: Floats, short: Floats) -> Vectors:
        """Return the vectors (B, D) of users, of whom the towers say long, short (B, D)."""
        share = self.short_share(long, short)[:, None]  # (B, 1)
        mixed = share * short + (1 - share) * long  # (B, D)
        return Vectors(*(self._turned(self._scaled(vectors)) for vectors in (mixed, long, short)))

    def short_share(self, long: Floats, short: Floats) -> Floats:
        """Return how much of each user's vector is the short one (B,); the rest is the long one."""
        dimension = short.shape[1]
        asked = short @ self._gate[:dimension] + long @ self._gate[dimension:] + self._gate_shift  # (B,)
        with np.errstate(over="ignore"):  # the share of one that is far on the other's side is 0
            share: Floats = 1 / (1 + np.exp(-asked))
        return share

    def _scaled(self, vectors: Floats) -> Floats:
        if self._score == "dot":
            scaled = vectors * self._scale + self._everyone  # (B, D)
            scaled[:, -1] = POPULARITY_UNIT
            return scaled
        shifted = vectors + self._everyone  # (B, D)
        lengths = np.linalg.norm(shifted, axis=1, keepdims=True)  # (B, 1)
        of_length_one: Floats = shifted / np.maximum(lengths, np.float32(SHORTEST))
        return of_length_one * self._scale

    def _turned(self, vectors: Floats) -> Floats:
        return vectors if self._rotation is None else vectors @ self._rotation
