"""The towers as PyTorch has them, of their weights as arrays: to train them, and for what only it can run."""

from collections.abc import Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from models.ids.vocabulary import Vocabulary
from models.towers.dual_towers import DualTowers
from models.towers.histories import FeatureSettings
from models.towers.weights import TowerWeights


def towers_of(weights: TowerWeights, vocabulary: Vocabulary, features: FeatureSettings) -> DualTowers:
    """Return the towers on the very memory of the weights, which may be mapped from a file, if it is float32.

    Raises RuntimeError where they are not those of such towers.
    """
    with _Uninitialised():
        towers = DualTowers(vocabulary, features, weights.settings)
    found = {name: torch.from_numpy(array) for name, array in weights.expanded().items()}
    towers.rotation = found.get("rotation")
    towers.load_state_dict(found, assign=True)
    return towers.eval()


class _Uninitialised(TorchFunctionMode):
    """Leaves out drawing weights that are about to be replaced.

    The device "meta" would do so too, but it imports a compiler: a second and a half, and 200 MB.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", "") == "torch.nn.init":
            return kwargs["tensor"]
        return func(*args, **kwargs)
