"""Everything that training two towers can be told: a TOML file of five sections, overruled by flags."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from models.errors import SettingsError
from models.location import Location, location
from models.two_tower.settings import TwoTowerSettings
from models.windows.window import WindowSettings
from offline.rankers.settings import DrawSettings, LabelLossSettings, RankerTrainSettings
from offline.training.settings import (
    Count,
    HeldOut,
    NotNegative,
    ShareButNotAll,
    StepSettings,
    given_settings,
)


@dataclass(frozen=True, slots=True)
class TrainingSection(StepSettings, DrawSettings, LabelLossSettings):
    """How the towers learn; `lr_decay` is beside the factor."""

    #: Passes at most, and passes without a better validation NDCG after which it ends.
    epochs: Count = 20
    early_stopping_patience: Count = 3
    #: Positives per step; batch normalisation has nothing to compare one alone with.
    batch_size: Annotated[int, Meta(ge=2)] = 256
    #: Learning rate of Adam; it is multiplied by the factor every so many steps.
    learning_rate: Annotated[float, Meta(gt=0, lt=1)] = 2e-3
    learning_rate_decay_factor: Annotated[float, Meta(gt=0, le=1)] = 0.9
    learning_rate_decay_steps: Count = 1_000
    #: Items beside each positive.
    num_negatives: Count = 4
    #: Share of users and items that are made unknown in a step: some lose their id, some users all that is
    #: known beside the window, so that strangers and new items are learned, too.
    unknown_share: ShareButNotAll = 0.1
    weight_decay: NotNegative = 0.0
    device: Literal["cpu", "cuda", "auto"] = "auto"
    seed: Annotated[int, Meta(ge=0, le=2**32 - 1)] = 0

    def __post_init__(self) -> None:
        self.check_shares()


@dataclass(frozen=True, slots=True)
class DataSection:
    """Which columns of users.csv and items.csv are read; a history column holds values with separators."""

    user_id: str = "user_id"
    item_id: str = "item_id"
    user_categorical: tuple[str, ...] = ()
    user_numeric: tuple[str, ...] = ()
    user_history: tuple[str, ...] = ()
    item_categorical: tuple[str, ...] = ()
    item_numeric: tuple[str, ...] = ()
    item_history: tuple[str, ...] = ()
    separator: Annotated[str, Meta(min_length=1)] = "|"
    #: Behaviours that are positive, by number: 1 view, 2 favourite, 3 cart, 4 buy.
    positives: tuple[int, ...] = (1, 2, 3, 4)
    #: An item with fewer rows than this in the training slice is unknown; at most `max_items` are known.
    min_item_count: Count = 1
    max_items: Count = 300_000
    #: The window that workers keep: newest events, and how far back from the newest.
    window_events: Count = WindowSettings().max_events
    horizon_ms: Count = WindowSettings().horizon_ms


@dataclass(frozen=True, slots=True)
class PathsSection:
    """Where everything is, from the directory in which the command runs; "" for no features."""

    log: str | tuple[str, ...] = "data/behaviour.csv"
    users: str = ""
    items: str = ""
    save_dir: str = "artifacts"

    @property
    def logs(self) -> tuple[str, ...]:
        """The files of the log, one or several."""
        return (self.log,) if isinstance(self.log, str) else self.log


@dataclass(frozen=True, slots=True)
class TwoTowerConfig:
    """All settings of a run."""

    model: TwoTowerSettings = field(default_factory=TwoTowerSettings)
    training: TrainingSection = field(default_factory=TrainingSection)
    data: DataSection = field(default_factory=DataSection)
    evaluation: HeldOut = field(default_factory=HeldOut)
    paths: PathsSection = field(default_factory=PathsSection)

    def __post_init__(self) -> None:
        for side in ("user", "item"):
            columns = [getattr(self.data, f"{side}_{kind}") for kind in ("categorical", "numeric", "history")]
            if any(columns) and not getattr(self.paths, f"{side}s"):
                name = next(names[0] for names in columns if names)
                raise SettingsError(
                    f"[data] names the {side} column {name!r}, and [paths] no {side}s: say {side}s = "
                    f'"{side}s.csv", or leave the column out'
                )

    @property
    def store(self) -> Location:
        """Where the artifact goes."""
        return location(self.paths.save_dir)

    @property
    def window(self) -> WindowSettings:
        """The window that workers keep."""
        return WindowSettings(self.data.window_events, self.data.horizon_ms)

    @property
    def drawing(self) -> RankerTrainSettings:
        """Which rows are asked, and how negatives are drawn, as rankers' samples are."""
        return RankerTrainSettings(
            positives=self.data.positives,
            negatives=self.training.num_negatives,
            uniform_share=self.training.uniform_share,
            popularity_power=self.training.popularity_power,
            batch_size=self.training.batch_size,
        )


#: Which section and setting a flag of the command overrules.
FLAGS = {
    "epochs": ("training", "epochs"),
    "batch_size": ("training", "batch_size"),
    "lr": ("training", "learning_rate"),
    "device": ("training", "device"),
    "seed": ("training", "seed"),
    "protocol": ("evaluation", "protocol"),
    "log": ("paths", "log"),
    "save_dir": ("paths", "save_dir"),
}


def read_two_tower_config(file: Path | None, flags: Mapping[str, Any]) -> TwoTowerConfig:
    """Return the settings of a TOML file, if there is one, overruled by the flags that are not None.

    SettingsError for an unknown section or key, a value of the wrong type, or one outside its bounds.
    """
    values = given_settings(file, {})
    sections = {each.name: each.default_factory for each in fields(TwoTowerConfig)}
    for name, section in values.items():
        if name not in sections or not isinstance(section, dict):
            raise SettingsError(
                f"{file}: there is no section [{name}]; the sections are {', '.join(sections)}"
            )
    for flag, value in flags.items():
        if value is not None:
            section, name = FLAGS[flag]
            values[section] = {**values.get(section, {}), name: value}
    parts = {name: _section(file, name, kind, values.get(name, {})) for name, kind in sections.items()}
    return TwoTowerConfig(**parts)


def _section(file: Path | None, name: str, kind: Any, values: Mapping[str, Any]) -> Any:
    known = [each.name for each in fields(kind)]
    if unknown := sorted(values.keys() - set(known)):
        raise SettingsError(
            f"{file}: [{name}] has no setting {unknown[0]!r}; its settings are {', '.join(known)}"
        )
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `$.")
        setting = path.rstrip("`").partition("[")[0]
        given = f"[{name}] {setting} is {values[setting]!r}: " if setting else f"[{name}] "
        raise SettingsError(f"{given}{reason[0].lower()}{reason[1:]}") from error
