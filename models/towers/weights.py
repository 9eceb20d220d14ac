"""The weights of dual towers as plain arrays, which encode without PyTorch; needs no torch."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from models.arrays import Floats, Ints
from models.errors import ArtifactError
from models.ids.vocabulary_file import FIRST_KNOWN
from models.quantised import Bytes8, dequantised
from models.towers.histories import GAP_BUCKETS, FeatureSettings
from models.towers.settings import (
    BEHAVIOUR_ROWS,
    DISTANCE_BUCKETS,
    MAX_SESSIONS_APART,
    ModelSettings,
)
from models.zeros import Array

#: Of a compressed model, in place of the known items' rows: the sum of each and its category's, as bytes.
ENTERING = "items.entering"
#: The tables that a compressed model has as bytes; behind the name of each, that of its rows' scales.
BYTE_TABLES = (ENTERING, "items.item_difference.weight", "items.category_difference.weight")
SCALE = ".scale"


@dataclass(frozen=True, slots=True)
class TowerWeights:
    """arrays: by their names in `DualTowers`; item_categories (I,): the category of every item index.

    Of a compressed model some are bytes, and items.item.weight has only what is no known item (BYTE_TABLES).
    """

    arrays: Mapping[str, Array]
    settings: ModelSettings
    item_categories: Ints

    def __getitem__(self, name: str) -> Floats:
        return self.arrays[name]

    @property
    def rotation(self) -> Floats | None:
        """What turns all vectors (D, D), None where nothing does."""
        return self.arrays.get("rotation")

    @property
    def entering(self) -> tuple[Bytes8, Floats] | None:
        """The known items' rows, their categories' added, as bytes and scales; None where not compressed."""
        if ENTERING not in self.arrays:
            return None
        return self.arrays[ENTERING], self.arrays[ENTERING + SCALE]

    def expanded(self) -> Mapping[str, Floats]:
        """Return all arrays of `DualTowers` as float32, what is bytes as a copy."""
        if self.entering is None:
            return self.arrays
        found = {name: each for name, each in self.arrays.items() if not name.endswith(SCALE)}
        for name in BYTE_TABLES:
            found[name] = dequantised(self.arrays[name], self.arrays[name + SCALE])
        of_category = self["items.category.weight"][self.item_categories[FIRST_KNOWN:]]
        known = found.pop(ENTERING) - of_category
        return found | {"items.item.weight": np.concatenate([self["items.item.weight"], known])}

    def check(self, items: int, categories: int, features: FeatureSettings) -> None:
        """Raise ArtifactError where an array has not the shape of such towers, or is not there.

        Compiled code that reads them would read beyond them.
        """
        for name, shape in self._shapes(items, categories, features).items():
            found = self.arrays[name].shape if name in self.arrays else "missing"
            if found != shape:
                raise ArtifactError(f"{name} is {found}, such towers have {shape}")
            kind = np.int8 if name in BYTE_TABLES else np.float32
            if self.arrays[name].dtype != kind:
                raise ArtifactError(f"{name} is {self.arrays[name].dtype}, such towers have {np.dtype(kind)}")

    def _shapes(self, items: int, categories: int, features: FeatureSettings) -> dict[str, tuple[int, ...]]:
        """Return the shape of each array that encoding reads."""
        size = self.settings.dimension
        return {
            **self._item_shapes(items, categories),
            "items.category.weight": (categories, size),
            "behaviour.weight": (BEHAVIOUR_ROWS, size),
            "gap.weight": (GAP_BUCKETS, size),
            "direct.place": (features.short_events, 2),
            "direct.behaviour": (BEHAVIOUR_ROWS,),
            "direct.again": (),
            "unseen_short": (size,),
            "unseen_long": (size,),
            "gate.weight": (1, 2 * size),
            "gate.bias": (1,),
            "everyone": (size,),
            "temperature": (),
            **self._tower_shapes("short", 1),
            **self._tower_shapes("long", self.settings.long_layers),
            **({"rotation": (size, size)} if "rotation" in self.arrays else {}),
        }

    def _item_shapes(self, items: int, categories: int) -> dict[str, tuple[int, ...]]:
        size = self.settings.dimension
        if self.entering is None:
            return {"items.item.weight": (items, size)}
        rows = dict(zip(BYTE_TABLES, (items - FIRST_KNOWN, items, categories), strict=True))
        scales = {name + SCALE: (count,) for name, count in rows.items()}
        return {"items.item.weight": (FIRST_KNOWN, size), **scales} | {
            name: (count, size) for name, count in rows.items()
        }

    def _tower_shapes(self, name: str, layers: int) -> dict[str, tuple[int, ...]]:
        size, heads, tower = self.settings.dimension, self.settings.heads, f"{name}_tower"
        shapes: dict[str, tuple[int, ...]] = {f"{name}_scale": (size,)}
        linear = {"query": size, "key_value": 2 * size, "output": size, "feed_forward.1": 2 * size}
        for layer in range(layers):
            at, bias = f"{tower}.layers.{layer}", f"{tower}.biases.{layer}"
            shapes |= {
                f"{bias}.distance": (DISTANCE_BUCKETS, heads),
                f"{bias}.session": (MAX_SESSIONS_APART, heads),
            }
            for part, rows in linear.items():
                shapes |= {f"{at}.{part}.weight": (rows, size), f"{at}.{part}.bias": (rows,)}
            shapes |= {f"{at}.feed_forward.4.weight": (size, 2 * size), f"{at}.feed_forward.4.bias": (size,)}
            for norm in (f"{at}.norm", f"{at}.feed_forward.0"):
                shapes |= {f"{norm}.weight": (size,), f"{norm}.bias": (size,)}
        return shapes | {f"{tower}.norm.weight": (size,), f"{tower}.norm.bias": (size,)}
