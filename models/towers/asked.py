"""The places of padded histories that are asked, put side by side, so that nothing else is computed."""

from dataclasses import dataclass

import torch
from torch import Tensor

from models.towers.features import Tokens
from models.towers.layers import Embedded, at_places


@dataclass(frozen=True, slots=True)
class AskedPlaces:
    """What the short tower needs of B histories of T places, of which some are asked.

    Of each history a part of W places, that ends with those asked and begins reach - 1 places before the
    first of them: places (B, W) in the history, so that in every part the same Q places `query` (1, Q) may be
    asked. wanted (B, Q) says which are; first (B, Q) is the first place of the part that each may see.
    """

    places: Tensor
    query: Tensor
    first: Tensor
    wanted: Tensor

    def tokens(self, tokens: Tokens) -> Tokens:
        """Return the tokens of the parts, (B, W)."""
        item, category, behaviour, gap, session = (
            column.gather(1, self.places)
            for column in (tokens.item, tokens.category, tokens.behaviour, tokens.gap, tokens.session)
        )
        return Tokens(item, category, behaviour, gap, session, tokens.count)

    def embedded(self, events: Embedded) -> Embedded:
        """Return the events of the parts, (B, W, D)."""
        items, vectors = (at_places(each, self.places) for each in (events.items, events.events))
        item, behaviour, session = (
            column.gather(1, self.places) for column in (events.item, events.behaviour, events.session)
        )
        return Embedded(items, item, behaviour, session, vectors)

    def at_query(self, values: Tensor) -> Tensor:
        """Return what values (B, T) are at the places that may be asked, (B, Q)."""
        return values.gather(1, self.places[:, self.query[0]])


def asked_places(wanted: Tensor, short_start: Tensor, reach: int) -> AskedPlaces:
    """Return which places to compute where these are wanted, (B, T), and see `short_start` (B, T) on.

    No place sees one that is `reach` or more before it. Where none is wanted, one is computed all the same.
    """
    place = torch.arange(wanted.shape[1], device=wanted.device)
    none_before = torch.where(wanted.any(dim=1), wanted.to(torch.uint8).argmax(dim=1), 0)  # (B,)
    end = torch.where(wanted, place + 1, 0).amax(dim=1)  # (B,)
    count = max(int((end - none_before).amax()), 1) if len(wanted) else 0
    start = none_before - (reach - 1)  # (B,), before the history's first place where that is near
    places = start[:, None] + torch.arange(reach - 1 + count, device=wanted.device)  # (B, W)
    exists = places < wanted.shape[1]
    query = torch.arange(reach - 1, reach - 1 + count, device=wanted.device)[None]  # (1, Q)
    places = places.clamp(0, wanted.shape[1] - 1)
    of_query = places[:, query[0]]  # (B, Q)
    return AskedPlaces(
        places,
        query,
        first=short_start.gather(1, of_query) - start[:, None],
        wanted=wanted.gather(1, of_query) & exists[:, query[0]],
    )


def distinct(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return the U different values (B, U) of each row of ascending ones (B, Q), and which each is (B, Q).

    Rows that have fewer are filled up with 0.
    """
    number = torch.nn.functional.pad((values.diff(dim=1) != 0).long().cumsum(dim=1), (1, 0))  # (B, Q)
    count = int(number.amax()) + 1 if number.numel() else 0
    return values.new_zeros(len(values), count).scatter_(1, number, values), number
