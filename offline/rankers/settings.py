"""Everything that a ranker's training can be told, from defaults, a TOML file and flags, in this order."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta

from models.errors import SettingsError
from models.events import BEHAVIOURS, Behaviour
from models.rankers.settings import RankerSettings
from offline.training.settings import (
    Count,
    HeldOut,
    NotNegative,
    Share,
    ShareButNotAll,
    given_settings,
    made_parts,
)

#: The least and the most items that are made unknown where it is not said how many.
UNKNOWN_SHARES = 0.02, 0.5
#: The least and the most targets per step where it is not said how many.
BATCH_SIZES = 32, 256


@dataclass(frozen=True, slots=True)
class RankerTrainSettings(HeldOut):
    """How a ranker learns from a behaviour log; `read_ranker_config` checks the bounds beside the fields."""

    #: Passes over the training slice at most, and passes without a better validation AUC after which it ends.
    epochs: Count = 15
    patience: Count = 3
    #: Targets per step; None: a hundredth of all, within BATCH_SIZES, so that small logs have steps enough.
    batch_size: Count | None = None
    #: Learning rate of Adam.
    lr: Annotated[float, Meta(gt=0, lt=1)] = 3e-3
    #: Where it trains; "auto" is a GPU where there is one.
    device: Literal["cpu", "cuda", "auto"] = "auto"
    #: Seed of everything random.
    seed: Annotated[int, Meta(ge=0, le=2**32 - 1)] = 0
    #: An item with fewer rows than this in the training slice is unknown; at most `max_items` are known.
    min_item_count: Count = 1
    max_items: Count = 300_000
    #: Behaviours that are positive, by number: 1 view, 2 favourite, 3 cart, 4 buy.
    positives: tuple[int, ...] = tuple(sorted(BEHAVIOURS))
    #: What is negative: "drawn" items that the user did not choose at that time, or the other "rows", as in
    #: a log of ratings, where only some are positive.
    negatives_from: Literal["drawn", "rows"] = "drawn"
    #: Items drawn for each positive; this share of them uniformly, the rest by popularity to this power.
    negatives: Count = 4
    uniform_share: Share = 0.5
    popularity_power: NotNegative = 1.0
    #: Strength of the regularisation of the vectors that a step reads (mini-batch aware, DIN section 5.1).
    regularisation: NotNegative = 0.0
    #: Share of items that are made unknown, so that the model learns to do with the category; None: as many
    #: as there are unknown targets in the validation slice, within UNKNOWN_SHARES.
    unknown_share: ShareButNotAll | None = None
    #: Of DIEN: weight of the auxiliary loss in the first pass, and what is left of it after each.
    auxiliary_weight: NotNegative = 1.0
    auxiliary_decay: Share = 1.0

    def __post_init__(self) -> None:
        unknown = sorted(set(self.positives) - BEHAVIOURS)
        if unknown or not self.positives:
            raise SettingsError(
                f"positives is {self.positives}; it must be some of 1 (view), 2 (favourite), 3 (cart), "
                "4 (buy)"
            )
        if self.negatives_from == "rows" and set(self.positives) == BEHAVIOURS:
            raise SettingsError(
                'negatives_from is "rows", but every behaviour is positive: name the positives, such as '
                "--positives favourite,buy"
            )

    def batch_of(self, samples: int) -> int:
        """Return how many of so many samples a step learns from."""
        return self.batch_size or min(max(samples // 100, BATCH_SIZES[0]), BATCH_SIZES[1])


@dataclass(frozen=True, slots=True)
class RankerConfig:
    """All settings of a run; where the gap is not given, it is learned from the log's precision."""

    ranker: RankerSettings
    train: RankerTrainSettings
    is_gap_given: bool


def read_ranker_config(file: Path | None, flags: Mapping[str, Any]) -> RankerConfig:
    """Return the settings of a TOML file, if there is one, overruled by the flags that are not None.

    The keys are the names of the settings' fields. SettingsError for an unknown key, a value of the wrong
    type, or one outside its bounds.
    """
    values = given_settings(file, flags)
    if isinstance(values.get("positives"), str):
        values["positives"] = _behaviours(values["positives"])
    parts = made_parts(values, {"ranker": RankerSettings, "train": RankerTrainSettings}, file)
    return RankerConfig(**parts, is_gap_given="gap_ms" in values)


def _behaviours(text: str) -> list[int]:
    """Return the numbers of behaviours that are named, or numbered, with commas between."""
    numbers = {each.name.lower(): int(each) for each in Behaviour} | {
        str(int(each)): int(each) for each in Behaviour
    }
    names = [name.strip().lower() for name in text.split(",")]
    unknown = [name for name in names if name not in numbers]
    if unknown:
        raise SettingsError(
            f"--positives is {text!r}; {unknown[0]!r} is no behaviour: view, favourite, cart, buy, or 1 to 4"
        )
    return sorted({numbers[name] for name in names})
