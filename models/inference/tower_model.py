"""The dual towers as a model (models/encoder.py): the fastest way to run them on each device."""

from collections.abc import Mapping

import numpy as np
import safetensors.torch
import torch

from models.arrays import Floats
from models.inference.cuda_graphs import GraphedTowers
from models.inference.inference import Inference
from models.model_files import TOWERS, WEIGHTS
from models.towers.dual_towers import DualTowers
from models.towers.histories import FeatureSettings


class TowerModel:
    """Dual towers, with how they divide a window."""

    def __init__(self, towers: DualTowers, features: FeatureSettings) -> None:
        self.towers = towers
        self._features = features

    def on_cpu(self, kept_vectors: int = 0) -> Inference:
        """Return their encoder on the CPU, which keeps so many users' long vectors."""
        return Inference(self.towers, self._features, kept_vectors=kept_vectors)

    def on_gpu(self, bfloat16: bool, kept_vectors: int) -> Inference | None:
        """Return their encoder on the GPU, None where PyTorch finds none."""
        if not torch.cuda.is_available():
            return None
        path = GraphedTowers(self.towers, bfloat16)
        return Inference(self.towers, self._features, path, kept_vectors)

    def item_vectors(self) -> Floats:
        """Return (I, D), the vectors of the known items in the order of the vocabulary."""
        with torch.inference_mode():
            return np.ascontiguousarray(self.towers.item_vectors().float().cpu().numpy())

    def files(self) -> Mapping[str, bytes]:
        """Return the weights; settings and vocabulary, which make the towers, are the artifact's."""
        weights = {name: tensor.cpu().contiguous() for name, tensor in self.towers.state_dict().items()}
        return {WEIGHTS: safetensors.torch.save(weights)}

    def description(self) -> Mapping[str, object]:
        """Return the kind."""
        return {"encoder": TOWERS}
