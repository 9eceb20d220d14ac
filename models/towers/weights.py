"""The weights of dual towers as plain arrays, which encode without PyTorch; needs no torch."""

from collections.abc import Mapping
from dataclasses import dataclass

from models.arrays import Floats, Ints
from models.errors import ArtifactError
from models.towers.histories import GAP_BUCKETS, FeatureSettings
from models.towers.settings import (
    BEHAVIOUR_ROWS,
    DISTANCE_BUCKETS,
    MAX_SESSIONS_APART,
    ModelSettings,
)


@dataclass(frozen=True, slots=True)
class TowerWeights:
    """arrays: by their names in `DualTowers`; item_categories (I,): the category of every item index."""

    arrays: Mapping[str, Floats]
    settings: ModelSettings
    item_categories: Ints

    def __getitem__(self, name: str) -> Floats:
        return self.arrays[name]

    @property
    def rotation(self) -> Floats | None:
        """What turns all vectors (D, D), None where nothing does."""
        return self.arrays.get("rotation")

    def check(self, items: int, categories: int, features: FeatureSettings) -> None:
        """Raise ArtifactError where an array has not the shape of such towers, or is not there.

        Compiled code that reads them would read beyond them.
        """
        for name, shape in self._shapes(items, categories, features).items():
            found = self.arrays[name].shape if name in self.arrays else "missing"
            if found != shape:
                raise ArtifactError(f"{name} is {found}, such towers have {shape}")

    def _shapes(self, items: int, categories: int, features: FeatureSettings) -> dict[str, tuple[int, ...]]:
        """Return the shape of each array that encoding reads."""
        size = self.settings.dimension
        return {
            "items.item.weight": (items, size),
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
