"""Everything that training a recurrent encoder beside a graph can be told, from defaults, TOML and flags."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta

from models.errors import SettingsError
from models.recurrent_graph.settings import RecurrentGraphSettings
from models.windows.window import WindowSettings
from offline.training.settings import (
    Count,
    HeldOut,
    NotNegative,
    Share,
    ShareButNotAll,
    given_settings,
    made_parts,
)


@dataclass(frozen=True, slots=True)
class RecurrentGraphTrainSettings(HeldOut):
    """How it learns from a behaviour log; `read_recurrent_graph_config` checks the bounds."""

    #: Passes at most, and passes without a better validation NDCG after which it ends.
    epochs: Count = 20
    patience: Count = 3
    #: Stretches of history per step.
    batch_size: Count = 64
    #: Learning rate of Adam, and how strongly it draws weights to 0.
    lr: Annotated[float, Meta(gt=0, lt=1)] = 2e-3
    weight_decay: NotNegative = 0.0
    #: Share of the numbers of items' vectors that is left out in a step.
    dropout: ShareButNotAll = 0.2
    #: Share of the events whose item is made unknown in a step.
    unknown_share: ShareButNotAll = 0.02
    #: Equal parts of the rows, by time; each learns with the graph of what was before it, the first without.
    periods: Annotated[int, Meta(ge=2)] = 8
    #: An edge joins an item with each of so many that the same user had next, and an item takes the messages
    #: of so many neighbours at most, those joined most often.
    reach: Count = 3
    neighbours: Count = 20
    #: Up to so many items are all compared with each target; of more, negatives are drawn for each step,
    #: this share of them uniformly, the rest by popularity.
    full_softmax_items: int = 5_000
    negatives: Count = 1_024
    uniform_share: Share = 0.5
    device: Literal["cpu", "cuda", "auto"] = "auto"
    seed: Annotated[int, Meta(ge=0, le=2**32 - 1)] = 0
    #: An item with fewer rows than this in the training slice is unknown; at most `max_items` are known.
    min_item_count: Count = 1
    max_items: Count = 300_000


@dataclass(frozen=True, slots=True)
class RecurrentGraphConfig:
    """All settings of a run; of a window `model.read_events` are read."""

    model: RecurrentGraphSettings
    train: RecurrentGraphTrainSettings
    window: WindowSettings


def read_recurrent_graph_config(
    recurrent: str, file: Path | None, flags: Mapping[str, Any]
) -> RecurrentGraphConfig:
    """Return the settings of a TOML file, if there is one, overruled by the flags that are not None.

    recurrent: the cell, gru or lstm. SettingsError for an unknown key, a value of the wrong type, or one
    outside its bounds.
    """
    parts = {
        "model": RecurrentGraphSettings,
        "train": RecurrentGraphTrainSettings,
        "window": WindowSettings,
    }
    given = {"recurrent": recurrent, **given_settings(file, flags)}
    found = RecurrentGraphConfig(**made_parts(given, parts, file))
    if found.model.recurrent != recurrent:
        raise SettingsError(
            f"{file}: recurrent is {found.model.recurrent!r}, and --model {recurrent}-gnn has the other "
            "cell: leave it out, or give the other --model"
        )
    return found
