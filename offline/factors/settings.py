"""Everything that a factorisation's training can be told, from defaults, a TOML file and flags."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta

from models.factors.settings import FactorSettings
from models.windows.window import WindowSettings
from offline.training.settings import Count, HeldOut, given_settings, made_parts


@dataclass(frozen=True, slots=True)
class FactorTrainSettings(HeldOut):
    """How it learns from a behaviour log; `read_factor_config` checks the bounds beside the fields."""

    #: Passes at most, and passes without a better validation NDCG after which it ends.
    epochs: Count = 15
    patience: Count = 3
    #: Seed of the factors that items begin with.
    seed: Annotated[int, Meta(ge=0, le=2**32 - 1)] = 0
    #: An item with fewer rows than this in the training slice is unknown; at most `max_items` are known.
    min_item_count: Count = 1
    max_items: Count = 300_000


@dataclass(frozen=True, slots=True)
class FactorConfig:
    """All settings of a run."""

    factors: FactorSettings
    train: FactorTrainSettings
    window: WindowSettings


def read_factor_config(file: Path | None, flags: Mapping[str, Any]) -> FactorConfig:
    """Return the settings of a TOML file, if there is one, overruled by the flags that are not None.

    SettingsError for an unknown key, a value of the wrong type, or one outside its bounds. `max_events` is
    the window's, all of which is read.
    """
    parts = {"factors": FactorSettings, "train": FactorTrainSettings, "window": WindowSettings}
    found = FactorConfig(**made_parts(given_settings(file, flags), parts, file))
    return replace(found, factors=replace(found.factors, max_events=found.window.max_events))
