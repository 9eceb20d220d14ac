"""Everything that training can be told, from defaults, a TOML file and flags, in this order."""

import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from models.errors import SettingsError
from models.towers.histories import FeatureSettings
from models.towers.settings import ModelSettings
from models.windows.window import WindowSettings
from offline.training.ablation import check_parts

Count = Annotated[int, Meta(ge=1)]
NotNegative = Annotated[float, Meta(ge=0)]
#: A share that may be all, and one that may not.
Share = Annotated[float, Meta(ge=0, le=1)]
ShareButNotAll = Annotated[float, Meta(ge=0, lt=1)]
#: Share of the rows that are held out.
HeldOutShare = Annotated[float, Meta(gt=0, lt=0.5)]

#: Half-lives are hours, or one of these.
FOUND, FOR_EVER = "found", "for ever"
HalfLife = Literal["found", "for ever"] | Annotated[float, Meta(gt=0)]

LossName = Literal["auto", "full-softmax", "sampled-softmax", "bpr", "bce", "gbce"]


@dataclass(frozen=True)
class StepSettings:
    """How a model's steps are made, whatever the model; settings of several bases, so it takes no slots."""

    __slots__ = ()

    #: Batches per step: their gradients are added up, as if they were one batch.
    accumulate: Count = 1
    #: How the learning rate falls to a tenth over all passes, and the share of all steps in which it first
    #: rises.
    lr_decay: Literal["constant", "linear", "cosine", "exponential", "step"] = "constant"
    warmup_share: ShareButNotAll = 0.0
    #: Precision of what the model computes in training; weights, scores and losses stay float32.
    #: float16, whose range is small, has its losses scaled up for it.
    precision: Literal["float32", "bfloat16", "float16"] = "float32"


@dataclass(frozen=True, slots=True)
class TrainSettings(StepSettings):
    """How a model learns from a behaviour log; `read_config` checks the bounds beside the fields."""

    #: Passes over the training slice at most; None: as many as make about 1,200 steps, from 4 to 30.
    epochs: Count | None = None
    #: Stretches of user histories (up to 100 targets each) per batch. Under torchrun a step has as many of
    #: them in every process. None: 8 on a CPU; on a GPU more, up to 64, where the log is long.
    batch_size: Count | None = None
    #: Highest learning rate of Adam; it falls to a tenth.
    lr: Annotated[float, Meta(gt=0, lt=1)] = 3e-3
    lr_decay: Literal["constant", "linear", "cosine", "exponential", "step"] = "linear"
    #: Epochs without a better validation NDCG after which training stops.
    patience: Count = 3
    #: Where it trains: "cuda" is a GPU (under torchrun, one per process), "auto" a GPU where there is one.
    device: Literal["cpu", "cuda", "auto"] = "auto"
    #: Seed of everything random.
    seed: Annotated[int, Meta(ge=0, le=2**32 - 1)] = 0
    #: How rows are held out: "time" by global time, "leave-one-out" the last two of each user.
    protocol: Literal["time", "leave-one-out"] = "time"
    #: Share of the rows, the last by time, that test takes, and the share before it that validation takes.
    test_share: HeldOutShare = 0.1
    validation_share: HeldOutShare = 0.1
    #: Whether what is published learns from all rows at last, those held out too; the figures are of the
    #: model that did not.
    final_fit: bool = True
    #: Whether it is found out by a walk of the rows held out by time if the items should go on learning from
    #: the stream (docs/items.md), with a final fit only; where not, they do not.
    live_items: bool = True
    #: After how many hours an event counts half, as a target and in an item's popularity: "for ever", or
    #: "found" by the rows held out by time; leave-one-out knows no present, so there nothing ages.
    half_life_h: HalfLife = "found"
    popularity_half_life_h: HalfLife = "found"
    #: An item with fewer rows than this in the training slice is unknown; at most `max_items` are known.
    min_item_count: Count = 1
    max_items: Count = 300_000
    #: Next-item loss; "auto" is full softmax up to `full_softmax_items` items, sampled softmax above.
    loss: LossName = "auto"
    full_softmax_items: int = 5_000
    #: Negatives drawn per step, shared by its targets; this share of them uniformly, the rest by popularity
    #: to this power; and whether a step's targets are also negatives of each other.
    negatives: Count = 1_024
    uniform_share: Share = 0.5
    popularity_power: NotNegative = 1.0
    in_batch_negatives: bool = False
    #: Share of each target's negatives that are hard: not drawn, but what scores highest for the user by the
    #: item vectors of up to `hard_refresh_steps` steps ago; and whether items that the user had before may be
    #: among them. Sampled softmax knows that they are there for certain (log q is 0); BPR, BCE and gBCE
    #: have no such correction, so hard negatives shift what they learn. Full softmax ignores these settings.
    hard_share: ShareButNotAll = 0.0
    hard_refresh_steps: Count = 100
    hard_from_history: bool = True
    #: How much a target counts that is a view, a favourite, a cart and a buy.
    behaviour_weights: tuple[NotNegative, NotNegative, NotNegative, NotNegative] = (1.0, 1.0, 1.0, 1.0)
    #: Weight of the contrast between the long and the short vector.
    contrast_weight: NotNegative = 0.01
    #: Of a teacher: how much the cross-entropy to what it holds likely counts beside a target's own loss; the
    #: temperature of both, higher ones heeding the order of the unlikely more; of which share of the targets
    #: it is asked, rather the heavier ones, and beside how many drawn items.
    teacher_weight: Annotated[float, Meta(gt=0)] = 0.3
    teacher_temperature: Annotated[float, Meta(gt=0)] = 2.0
    teacher_share: Annotated[float, Meta(gt=0, le=1)] = 0.25
    teacher_candidates: Count = 50
    #: Share of input items that are made unknown, so that the model learns to do with the category.
    unknown_share: Share = 0.02
    #: Parts of the model that are left out, to see what they are worth; see `offline.training.ablation`.
    without: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not any(self.behaviour_weights):
            raise SettingsError(f"behaviour_weights is {self.behaviour_weights}; one must be over 0")
        check_parts(self.without)

    @property
    def hard_negatives(self) -> int:
        """How many of each target's `negatives` are hard, fewer than all."""
        return int(self.negatives * self.hard_share)


@dataclass(frozen=True, slots=True)
class HeldOut:
    """How rows are held out from a model that is not dual towers; bounds are checked where it is read."""

    #: How rows are held out: "time" by global time, "leave-one-out" the last two of each user.
    protocol: Literal["time", "leave-one-out"] = "time"
    #: Share of the rows, the last by time, that test takes, and the share before it that validation takes.
    test_share: HeldOutShare = 0.1
    validation_share: HeldOutShare = 0.1
    #: Whether what is published learns from all rows at last; the figures are of the one that did not.
    final_fit: bool = True

    @property
    def slicing(self) -> TrainSettings:
        """The same as `slice_log` takes it."""
        return TrainSettings(
            protocol=self.protocol, test_share=self.test_share, validation_share=self.validation_share
        )


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """All settings of a run; `gap_ms` None is learned from the log's precision."""

    window: WindowSettings
    features: FeatureSettings
    model: ModelSettings
    train: TrainSettings
    is_gap_given: bool = False


def read_config(file: Path | None, flags: Mapping[str, Any]) -> TrainingConfig:
    """Return the settings of a TOML file, if there is one, overruled by the flags that are not None.

    The keys are the names of the settings' fields, without tables. SettingsError for an unknown key, a value
    of the wrong type, or one outside its bounds.
    """
    return config_of(given_settings(file, flags), file)


def given_settings(file: Path | None, flags: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a TOML file and flags say, by name; it is not checked yet."""
    values = _read_toml(file) if file else {}
    return values | {name: value for name, value in flags.items() if value is not None}


def config_of(values: Mapping[str, Any], file: Path | None = None) -> TrainingConfig:
    """Return settings of which these are given, by name, the others defaults; errors as `read_config`."""
    parts: dict[str, Any] = {
        "window": WindowSettings,
        "features": FeatureSettings,
        "model": ModelSettings,
        "train": TrainSettings,
    }
    return TrainingConfig(**made_parts(values, parts, file), is_gap_given="gap_ms" in values)


def made_parts(values: Mapping[str, Any], parts: Mapping[str, Any], file: Path | None) -> dict[str, Any]:
    """Return the settings of each part, a dataclass by its name, of which these are given, by name."""
    owner = {field.name: part for part, kind in parts.items() for field in fields(kind)}
    unknown = sorted(values.keys() - owner)
    if unknown:
        known = ", ".join(sorted(owner))
        raise SettingsError(f"{file}: there is no setting {unknown[0]!r}; the settings are {known}")
    chosen = {part: {k: v for k, v in values.items() if owner[k] == part} for part in parts}
    try:
        return {part: msgspec.convert(chosen[part], kind) for part, kind in parts.items()}
    except msgspec.ValidationError as error:
        raise SettingsError(_explained(error, values)) from error


def _explained(error: msgspec.ValidationError, values: Mapping[str, Any]) -> str:
    """Return the message with the setting's name and value before it, instead of the path behind it."""
    reason, _, path = str(error).partition(" - at `$.")
    name = re.split(r"\W", path)[0]
    return f"{name} is {values[name]!r}; {reason[0].lower()}{reason[1:]}" if name else str(error)


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"--config {file} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"--config {file} is not TOML: {error}") from error


def to_plain(settings: TrainSettings) -> dict[str, Any]:
    """Return the settings as plain values, to be stored in an artifact."""
    return asdict(settings)


def hours_of(half_life: str | float) -> float | None:
    """Return the hours of a half-life as settings and artifacts have it, None where it is to be found."""
    if isinstance(half_life, str):
        return math.inf if half_life == FOR_EVER else None
    return half_life
