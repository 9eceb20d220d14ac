"""What a ranker is made of; stored with it. Needs no torch."""

from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from msgspec import Meta

from models.errors import SettingsError
from models.sessions import DEFAULT_GAP_MS
from models.windows.window import DAY_MS

#: The rankers that there are.
Kind = Literal["din", "dsin", "dien"]
#: How a candidate looks at events.
AttentionName = Literal["mlp", "dot", "bilinear", "multi-head", "position"]
#: How DIEN's attention enters the second GRU.
Evolution = Literal["augru", "aigru", "agru"]
KINDS: tuple[str, ...] = get_args(Kind)

Count = Annotated[int, Meta(ge=1)]


@dataclass(frozen=True, slots=True)
class RankerSettings:
    """The shape of a ranker, and what it reads of a user; all bounds are checked where it is made."""

    kind: Kind = "din"
    #: The most events that are read: DIN and DIEN the newest, DSIN the newest of the newest sessions.
    max_events: Count = 50
    #: Events older than this, counted back from the user's newest, are not read (ms).
    horizon_ms: Count = 30 * DAY_MS
    #: A new session starts after a pause longer than this (ms).
    gap_ms: Count = DEFAULT_GAP_MS
    #: Of DSIN: S, the most sessions that are read; each takes max_events / S places.
    sessions: Count = 5
    #: Length of an item's and of a category's vector; D is their sum.
    item_dimension: Count = 32
    category_dimension: Count = 16
    #: Of DIN: how a candidate looks at events, and whether the weights sum up to 1 (in the paper not).
    attention: AttentionName = "mlp"
    softmax: bool = False
    #: Units of the attention's MLP, and of the layers that score.
    attention_units: Count = 36
    units: tuple[Count, ...] = (80, 40)
    #: Heads of multi-head and of DSIN's self-attention.
    heads: Count = 4
    #: Of DIEN: how attention enters the second GRU (in the paper AUGRU is best).
    evolution: Evolution = "augru"
    #: Whether the moment, and numbers of the user and of what it had of the candidate, are scored too.
    features: bool = True
    #: The hours by which the clock of hour and weekday is ahead of UTC.
    utc_offset_h: Annotated[float, Meta(ge=-14, le=14)] = 0.0

    def __post_init__(self) -> None:
        if self.dimension % (2 * self.heads):
            raise SettingsError(
                f"item_dimension + category_dimension is {self.dimension}; it must be a multiple of twice "
                f"the heads, {2 * self.heads}"
            )
        if self.kind == "dsin" and self.max_events % self.sessions:
            raise SettingsError(
                f"max_events is {self.max_events}; it must be a multiple of sessions, {self.sessions}"
            )
        if not self.units:
            raise SettingsError("units is empty; give at least one layer")

    @property
    def dimension(self) -> int:
        """D, the length of an event's and of a candidate's vector."""
        return self.item_dimension + self.category_dimension
