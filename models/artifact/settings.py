"""What must be the same wherever a model is used; its artifact says it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from models.artifact.live_items import LiveItemsSettings
from models.towers.histories import FeatureSettings
from models.towers.settings import ModelSettings
from models.windows.window import WindowSettings


@dataclass(frozen=True, slots=True)
class ArtifactSettings:
    """What must be the same wherever this model is used."""

    window: WindowSettings = field(default_factory=WindowSettings)
    features: FeatureSettings = field(default_factory=FeatureSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    live_items: LiveItemsSettings = field(default_factory=LiveItemsSettings)

    @property
    def gap_ms(self) -> int:
        """The pause that ends a session (ms)."""
        return self.features.gap_ms


def settings_of(stored: Mapping[str, Any]) -> ArtifactSettings:
    """Return an artifact's settings; those that did not exist when it was made are what was done then."""
    model = {"item_length": "free", **stored.get("model", {})}
    return msgspec.convert({**stored, "model": model}, ArtifactSettings)
