"""Everything that training can be told, from defaults, a TOML file and flags, in this order."""

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import msgspec

from models.errors import SettingsError
from models.towers.dual_towers import ModelSettings
from models.towers.histories import FeatureSettings
from models.windows.window import WindowSettings
from offline.training.ablation import check_parts

LossName = Literal["auto", "full-softmax", "sampled-softmax", "bpr", "bce", "gbce"]


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """How a model learns from a behaviour log."""

    #: Passes over the training slice at most; None: as many as make about 1,200 steps, from 4 to 30.
    epochs: int | None = None
    #: Stretches of user histories (up to 100 targets each) per batch, and batches per step: their gradients
    #: are added up, as if they were one batch. Under torchrun a step has as many of them in every process.
    batch_size: int = 8
    accumulate: int = 1
    #: Highest learning rate of Adam; it falls to a tenth.
    lr: float = 3e-3
    #: How it falls, and the share of all steps in which it first rises.
    lr_decay: Literal["linear", "cosine", "exponential", "step"] = "linear"
    warmup_share: float = 0.0
    #: Epochs without a better validation NDCG after which training stops.
    patience: int = 3
    #: Where it trains: on a GPU, under torchrun on one per process; "auto" on one where there is one.
    device: Literal["cpu", "cuda", "auto"] = "cpu"
    #: Of what the towers compute in training; weights, scores and losses stay float32. float16, whose range
    #: is small, has its losses scaled up for it.
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    #: Of everything random.
    seed: int = 0
    #: How rows are held out: "time" by global time, "leave-one-out" the last two of each user.
    protocol: Literal["time", "leave-one-out"] = "time"
    #: Share of the rows, the last by time, that test takes, and the share before it that validation takes.
    test_share: float = 0.1
    validation_share: float = 0.1
    #: An item with fewer rows than this in the training slice is unknown; at most `max_items` are known.
    min_item_count: int = 1
    max_items: int = 300_000
    #: Next-item loss; "auto" is full softmax up to `full_softmax_items` items, sampled softmax above.
    loss: LossName = "auto"
    full_softmax_items: int = 5_000
    #: Negatives drawn per step, shared by its targets; this share of them uniformly, the rest by popularity
    #: to this power; and whether a step's targets are negatives of each other as well.
    negatives: int = 1_024
    uniform_share: float = 0.5
    popularity_power: float = 1.0
    in_batch_negatives: bool = False
    #: Share of each target's negatives that are hard: not drawn, but what scores highest for the user by the
    #: item vectors of up to `hard_refresh_steps` steps ago; and whether items that the user had before may be
    #: among them. Sampled softmax knows that they are there for certain (log q is 0); BPR, BCE and gBCE
    #: have no such correction and lean towards telling apart what is nearly as good. Nothing to full softmax.
    hard_share: float = 0.0
    hard_refresh_steps: int = 100
    hard_from_history: bool = True
    #: How much a target counts that is a view, a favourite, a cart and a buy.
    behaviour_weights: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    #: Weight of the contrast between the long and the short vector.
    contrast_weight: float = 0.01
    #: Share of input items that are made unknown, so that the model learns to do with the category.
    unknown_share: float = 0.02
    #: Parts of the model that are left out, to see what they are worth; see `offline.training.ablation`.
    without: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        counts = ("epochs", "batch_size", "patience", "min_item_count", "max_items")
        for name in (*counts, "accumulate", "negatives", "hard_refresh_steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise SettingsError(f"{name} is {value}; it must be at least 1")
        if self.seed < 0:
            raise SettingsError(f"seed is {self.seed}; it must be at least 0")
        if not 0 < self.lr < 1:
            raise SettingsError(f"lr is {self.lr}; it must be over 0 and under 1")
        for name in ("test_share", "validation_share"):
            if not 0 < getattr(self, name) < 0.5:
                raise SettingsError(f"{name} is {getattr(self, name)}; it must be over 0 and under 0.5")
        for name in ("warmup_share", "hard_share"):
            if not 0 <= getattr(self, name) < 1:
                raise SettingsError(f"{name} is {getattr(self, name)}; it must be at least 0 and under 1")
        for name in ("uniform_share", "unknown_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise SettingsError(f"{name} is {getattr(self, name)}; it must be from 0 to 1")
        if min(self.behaviour_weights) < 0 or not any(self.behaviour_weights):
            raise SettingsError(
                f"behaviour_weights is {self.behaviour_weights}; none may be under 0, and one must be over it"
            )
        if self.popularity_power < 0:
            raise SettingsError(f"popularity_power is {self.popularity_power}; it must be at least 0")
        check_parts(self.without)
        if self.contrast_weight < 0:
            raise SettingsError(f"contrast_weight is {self.contrast_weight}; it must be at least 0")

    @property
    def hard_negatives(self) -> int:
        """How many of each target's `negatives` are hard, fewer than all."""
        return int(self.negatives * self.hard_share)


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
    of the wrong kind, or one that makes no sense.
    """
    values = _read_toml(file) if file else {}
    values |= {name: value for name, value in flags.items() if value is not None}
    parts: dict[str, Any] = {
        "window": WindowSettings,
        "features": FeatureSettings,
        "model": ModelSettings,
        "train": TrainSettings,
    }
    owner = {field.name: part for part, kind in parts.items() for field in fields(kind)}
    unknown = sorted(values.keys() - owner)
    if unknown:
        known = ", ".join(sorted(owner))
        raise SettingsError(f"{file}: there is no setting {unknown[0]!r}; the settings are {known}")
    chosen = {part: {k: v for k, v in values.items() if owner[k] == part} for part in parts}
    try:
        made: dict[str, Any] = {part: msgspec.convert(chosen[part], kind) for part, kind in parts.items()}
    except msgspec.ValidationError as error:
        raise SettingsError(f"{file or 'settings'}: {error}") from error
    return TrainingConfig(**made, is_gap_given="gap_ms" in values)


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
