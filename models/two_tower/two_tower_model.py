"""Two towers over features as a model (models/encoder.py)."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import msgspec
import numpy as np
import safetensors.numpy

from models.arrays import Floats
from models.ids.id_table import make_id_table
from models.model_files import TWO_TOWER, USERS, WEIGHTS
from models.two_tower.settings import TwoTowerSettings
from models.two_tower.two_tower_encoder import TwoTowerEncoder
from models.two_tower.weights import UserTower


class TwoTowerModel:
    """The user side, the ids of the users who are known beside their windows, and the items (I, D)."""

    def __init__(
        self, tower: UserTower, settings: TwoTowerSettings, user_ids: Sequence[str], items: Floats
    ) -> None:
        """Raises ValueError where a user is listed twice."""
        self.tower = tower
        self.settings = settings
        self.user_ids = user_ids
        self._users = make_id_table(user_ids)
        self._items = items

    def on_cpu(self, kept_vectors: int = 0) -> TwoTowerEncoder:
        """Return its encoder, which keeps nothing."""
        return TwoTowerEncoder(self.tower, self.settings, self._users)

    def on_gpu(self, bfloat16: bool, kept_vectors: int) -> None:
        """Return None: it has no encoder on a GPU."""

    def item_vectors(self) -> Floats:
        """Return (I, D), the vectors of the known items in the order of the vocabulary."""
        return self._items

    def files(self) -> Mapping[str, bytes]:
        """Return the arrays, and the users' ids."""
        arrays = {name: np.ascontiguousarray(array) for name, array in self.tower.arrays().items()}
        return {WEIGHTS: safetensors.numpy.save(arrays), USERS: msgspec.msgpack.encode(list(self.user_ids))}

    def description(self) -> Mapping[str, object]:
        """Return the kind, and its settings."""
        return {"encoder": TWO_TOWER, TWO_TOWER: asdict(self.settings)}
