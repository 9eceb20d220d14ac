"""The dual towers as a model (models/encoder.py): the fastest way to run them on each device.

PyTorch is loaded where it is needed, and not before: most workers encode on a CPU, without it.
"""

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import safetensors.numpy

from models.arrays import Floats
from models.inference.cpu_towers import CpuTowers
from models.inference.inference import Inference, TowerPath
from models.item_table import VECTORS, ItemTable, as_bytes
from models.model_files import TOWERS, WEIGHTS
from models.towers.histories import FeatureSettings
from models.towers.weights import TowerWeights
from models.zeros import Array, without_zeros

if TYPE_CHECKING:
    from models.towers.dual_towers import DualTowers


class TowerModel:
    """Dual towers, with how they divide a window."""

    def __init__(
        self,
        weights: TowerWeights,
        features: FeatureSettings,
        make_towers: "Callable[[], DualTowers]",
        leaves_zeros_out: bool = False,
    ) -> None:
        """`make_towers` gives the towers of these weights as PyTorch has them.

        leaves_zeros_out: files have only the weights that are not zero, where that takes fewer bytes.
        """
        self.weights = weights
        self._features = features
        self._make_towers = make_towers
        self._leaves_zeros_out = leaves_zeros_out

    @classmethod
    def of(cls, towers: "DualTowers", features: FeatureSettings) -> "TowerModel":
        """Return the model of these towers, as they are now."""
        return cls(towers.weights(), features, lambda: towers)

    @cached_property
    def towers(self) -> "DualTowers":
        """The towers as PyTorch has them."""
        return self._make_towers()

    def on_cpu(self, kept_vectors: int = 0) -> Inference:
        """Return their encoder on the CPU, which keeps so many users' long vectors."""
        return Inference(self.weights, self._features, self._cpu_path(), kept_vectors)

    def _cpu_path(self) -> TowerPath:
        if CpuTowers.can_run(self.weights):
            return CpuTowers(self.weights, self._features)
        from models.inference.padded_towers import PaddedTowers

        return PaddedTowers(self.towers)

    def on_gpu(self, bfloat16: bool, kept_vectors: int) -> Inference | None:
        """Return their encoder on the GPU, None where PyTorch finds none."""
        import torch

        if not torch.cuda.is_available():
            return None
        from models.inference.cuda_graphs import GraphedTowers

        path = GraphedTowers(self.towers, bfloat16)
        return Inference(self.weights, self._features, path, kept_vectors)

    def item_vectors(self) -> Floats:
        """Return (I, D), the vectors of the known items in the order of the vocabulary."""
        return ItemTable(self.item_arrays()).read()

    def item_arrays(self) -> Mapping[str, Array]:
        """Return them as a file has them: as bytes where the model is compressed to bytes."""
        import torch

        with torch.inference_mode():
            vectors = np.ascontiguousarray(self.towers.item_vectors().float().cpu().numpy())
        if self.weights.entering is None:
            return {VECTORS: vectors}
        has_popularity = self.weights.settings.score == "dot" and self.weights.rotation is None
        return as_bytes(vectors, keeps_last=has_popularity)

    def files(self) -> Mapping[str, bytes]:
        """Return the weights; settings and vocabulary, which make the towers, are the artifact's."""
        arrays = {name: np.asarray(array, order="C") for name, array in self.weights.arrays.items()}
        if self._leaves_zeros_out:
            arrays = without_zeros(arrays)
        return {WEIGHTS: safetensors.numpy.save(arrays)}

    def description(self) -> Mapping[str, object]:
        """Return the kind."""
        return {"encoder": TOWERS}
