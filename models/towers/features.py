"""Histories -> padded tensors: the only place that does it, so that offline and online vectors agree."""

from collections.abc import Iterable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from models.arrays import Ints
from models.towers.histories import EventFeatures, FeatureSettings, tower_spans
from models.windows.histories import Histories


@dataclass(frozen=True, slots=True)
class Tokens:
    """Padded events of B users, oldest first, padding behind them; all int64 (B, T) but `count` (B,)."""

    item: Tensor
    category: Tensor
    behaviour: Tensor
    gap: Tensor
    session: Tensor
    count: Tensor

    def to(self, device: torch.device) -> "Tokens":
        """Return them on a device."""
        return Tokens(*(getattr(self, each.name).to(device) for each in fields(self)))


@dataclass(frozen=True, slots=True)
class TowerInputs:
    """What the two towers read of B users."""

    long: Tokens
    short: Tokens


def features(histories: Histories, settings: FeatureSettings) -> TowerInputs:
    """Return the padded tensors of both towers for each user's whole history."""
    spans = tower_spans(histories, settings)
    long, short = (pad(histories, spans.derived, *part) for part in (spans.long, spans.short))
    return TowerInputs(forget_before(long), short)


def pad(histories: Histories, derived: EventFeatures, first: Ints, count: Ints) -> Tokens:
    """Return tokens whose row r holds the `count[r]` events from `first[r]` on; width = the largest count."""
    return pad_columns(
        columns_of(histories, derived),
        torch.from_numpy(first),
        torch.from_numpy(count),
        int(count.max(initial=0)),
    )


def columns_of(histories: Histories, derived: EventFeatures) -> tuple[Tensor, ...]:
    """Return what the towers read of E events: the columns of `Tokens`, in its order, (E,) each."""
    columns = histories.item, histories.category, histories.behaviour, derived.gap, derived.session
    return tuple(map(torch.from_numpy, columns))


def pad_columns(columns: Iterable[Tensor], first: Tensor, count: Tensor, width: int) -> Tokens:
    """Return `width` places for each of R parts of `columns_of`'s columns; first, count (R,) as in `Part`."""
    place = torch.arange(width, device=count.device)
    is_real = place < count[:, None]  # (R, T)
    rows = torch.where(is_real, first[:, None] + place, 0)  # (R, T)
    item, category, behaviour, gap, session = (
        torch.where(is_real, column[rows].long(), 0) for column in columns
    )  # (R, T) each
    return Tokens(item, category, behaviour, gap, session, count)


def forget_before(tokens: Tokens) -> Tokens:
    """Return what the long tower reads: the first event has no pause before it.

    What came before a part must not reach the long tower, whose vector can then be kept.
    """
    tokens.gap[:, :1] = 0
    return tokens
