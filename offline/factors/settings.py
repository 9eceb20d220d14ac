"""Everything that a factorisation's training can be told, from defaults, a TOML file and flags."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta

from models.factors.settings import FactorSettings
from models.windows.window import WindowSettings
from offline.training.settings import Count, HeldOutShare, TrainSettings, given_settings, made_parts


@dataclass(frozen=True, slots=True)
class FactorTrainSettings:
    """How it learns from a behaviour log; `read_factor_config` checks the bounds beside the fields."""

    #: Passes at most, and passes without a better validation NDCG after which it ends.
    epochs: Count = 15
    patience: Count = 3
    #: Seed of the factors that items begin with.
    seed: Annotated[int, Meta(ge=0)] = 0
    #: How rows are held out: "time" by global time, "leave-one-out" the last two of each user.
    protocol: Literal["time", "leave-one-out"] = "time"
    #: Share of the rows, the last by time, that test takes, and the share before it that validation takes.
    test_share: HeldOutShare = 0.1
    validation_share: HeldOutShare = 0.1
    #: Whether what is published learns from all rows at last; the figures are of the one that did not.
    final_fit: bool = True
    #: An item with fewer rows than this in the training slice is unknown; at most `max_items` are known.
    min_item_count: Count = 1
    max_items: Count = 300_000

    @property
    def slicing(self) -> TrainSettings:
        """How rows are held out, as `slice_log` takes it."""
        return TrainSettings(
            protocol=self.protocol, test_share=self.test_share, validation_share=self.validation_share
        )


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
