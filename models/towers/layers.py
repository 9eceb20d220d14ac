"""The parts the towers are made of: causal attention over events, and a weighted sum of the last ones."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.ids.vocabulary_file import FIRST_KNOWN
from models.towers.settings import BEHAVIOUR_ROWS, DISTANCE_BUCKETS, MAX_SESSIONS_APART


@dataclass(frozen=True, slots=True)
class EmbeddedItems:
    """The items of B users' events as vectors (B, T, D), and item, behaviour, session (B, T) int64."""

    items: Tensor
    item: Tensor
    behaviour: Tensor
    session: Tensor


@dataclass(frozen=True, slots=True)
class Embedded(EmbeddedItems):
    """Their events too, (B, T, D): the items with behaviour and pause."""

    events: Tensor


class Dropout(nn.Module):
    """Zeroes each coordinate with a chance of about `share` in training; the rest is scaled up for it.

    nn.Dropout draws one random number per coordinate, which on a CPU takes a fifth of a training step; here
    one draw serves eight coordinates, a byte each, so the chance is a multiple of 1/256.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.dropped_of_256 = min(round(share * 256), 255)

    def forward(self, full: Tensor) -> Tensor:
        """Return a tensor of the same shape."""
        if not self.training or not self.dropped_of_256:
            return full
        draws = torch.empty(-(-full.numel() // 8), dtype=torch.int64, device=full.device)
        draws.random_(torch.iinfo(torch.int64).min, None)
        kept = draws.view(torch.uint8)[: full.numel()].view(full.shape) >= self.dropped_of_256
        return full * (kept * (256 / (256 - self.dropped_of_256)))


class AttentionBias(nn.Module):
    """A learned term per head for how far apart two events are, in events and in sessions."""

    def __init__(self, heads: int, reach: int) -> None:
        super().__init__()
        self.reach = reach
        self.distance = nn.Parameter(torch.zeros(DISTANCE_BUCKETS, heads))
        self.session = nn.Parameter(torch.zeros(MAX_SESSIONS_APART, heads))

    def forward(self, query: Tensor, first: Tensor, session: Tensor) -> Tensor:
        """Return (B, H, Q, T): what to add to the attention of query places to T events.

        query (B, Q), or (1, Q) where all rows ask at the same places; first (B, Q) the first place a query
        may see; session (B, T) numbers each event's session. Minus infinity where the event is later than
        the query, before `first`, or `reach` or more back.
        """
        distance = _distances(query, session.shape[1])  # (1 or B, Q, T)
        bias = self._of_distance(distance).permute(0, 3, 1, 2)  # (1 or B, H, Q, T)
        apart = session.gather(1, query.expand(len(session), -1))[..., None] - session[:, None]  # (B, Q, T)
        apart = apart.clamp(max=MAX_SESSIONS_APART)[:, None]  # (B, 1, Q, T)
        for count, term in enumerate(self.session, start=1):
            bias = bias + (apart == count) * term[:, None, None]  # (B, H, Q, T)
        is_seen = _is_seen(distance, query, first, self.reach)[:, None]  # (B, 1, Q, T)
        return bias.masked_fill(~is_seen, -math.inf)

    def tables(self) -> tuple[Tensor, Tensor]:
        """Return the terms by events back, (reach, H), and by sessions apart, (MAX_SESSIONS_APART + 1, H)."""
        by_distance = self._of_distance(torch.arange(self.reach, device=self.distance.device))
        return by_distance, torch.cat([torch.zeros_like(self.session[:1]), self.session])

    def _of_distance(self, distance: Tensor) -> Tensor:
        """Return the term (..., H) of so many events back (...)."""
        bucket = torch.log2(distance.clamp(min=0) + 1.0).long().clamp(max=DISTANCE_BUCKETS - 1)
        return pick(self.distance, bucket)


class Layer(nn.Module):
    """A pre-norm Transformer layer whose queries may be fewer than its events."""

    def __init__(self, dimension: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(dimension)
        self.query = nn.Linear(dimension, dimension)
        self.key_value = nn.Linear(dimension, 2 * dimension)
        self.output = nn.Linear(dimension, dimension)
        self.dropout = Dropout(dropout)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(dimension),
            nn.Linear(dimension, 2 * dimension),
            nn.GELU(),
            Dropout(dropout),
            nn.Linear(2 * dimension, dimension),
            Dropout(dropout),
        )

    def forward(self, events: Tensor, query: Tensor | None, bias: Tensor) -> Tensor:
        """Return (B, Q, D) of events (B, T, D) at query places (B, Q), all places where None."""
        batch, _, dimension = events.shape
        normed = self.norm(events)  # (B, T, D)
        asking = normed if query is None else at_places(normed, query)  # (B, Q, D)
        residual = events if query is None else at_places(events, query)  # (B, Q, D)
        key, value = self.key_value(normed).chunk(2, dim=-1)  # (B, T, D) each
        mixed = functional.scaled_dot_product_attention(
            self.split(self.query(asking)), self.split(key), self.split(value), attn_mask=bias
        )  # (B, H, Q, D/H)
        mixed = mixed.transpose(1, 2).reshape(batch, -1, dimension)  # (B, Q, D)
        residual = residual + self.dropout(self.output(mixed))  # (B, Q, D)
        deepened: Tensor = residual + self.feed_forward(residual)  # (B, Q, D)
        return deepened

    def split(self, flat: Tensor) -> Tensor:
        """Return each head's part (B, H, T, D/H) of vectors (B, T, D)."""
        return flat.view(len(flat), flat.shape[1], self.heads, -1).transpose(1, 2)


class Tower(nn.Module):
    """Causal Transformer layers over a user's events."""

    def __init__(self, dimension: int, heads: int, dropout: float, layers: int, reach: int) -> None:
        super().__init__()
        self.biases = nn.ModuleList(AttentionBias(heads, reach) for _ in range(layers))
        self.layers = nn.ModuleList(Layer(dimension, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(dimension)

    def forward(self, events: Embedded, query: Tensor | None, first: Tensor) -> Tensor:
        """Return (B, Q, D) at the places query (B, Q), each seeing events from first (B, Q) on.

        All places where query is None. Layers below the last run at every place, and there from 0 on.
        """
        session = events.session  # (B, T)
        places = _every_place(session) if query is None else query
        bias = self.biases[-1](places, first, session)  # (B, H, Q, T)
        normed: Tensor = self.norm(self.layers[-1](self.below_last(events), query, bias))  # (B, Q, D)
        return normed

    def below_last(self, events: Embedded) -> Tensor:
        """Return (B, T, D): what the last layer reads of the events."""
        hidden, session = events.events, events.session  # (B, T, D), (B, T)
        every = _every_place(session)  # (1, T)
        for bias, layer in zip(self.biases[:-1], self.layers[:-1], strict=True):
            hidden = layer(hidden, None, bias(every, torch.zeros_like(session), session))  # (B, T, D)
        return hidden


class DirectPath(nn.Module):
    """A learned weighted sum of the last K items: what a transition from the last items can do.

    The weight of an item depends on how far back it is, on whether it is in the newest event's session, on
    the behaviour, and on whether the item comes again behind it, nearer to the newest event.
    """

    def __init__(self, reach: int) -> None:
        super().__init__()
        self.reach = reach
        start = 0.6 ** torch.arange(reach, dtype=torch.float32)
        self.place = nn.Parameter(torch.stack([start, start], dim=1))  # (K, 2)
        self.behaviour = nn.Parameter(torch.zeros(BEHAVIOUR_ROWS))
        # At first an item counts at its newest place alone, so that what users return to is in that order.
        self.again = nn.Parameter(torch.zeros(()))

    def forward(self, events: EmbeddedItems, query: Tensor | None, first: Tensor) -> Tensor:
        """Return (B, Q, D) at the places query (B, Q), all where None, from first (B, Q) on."""
        places = _every_place(events.session) if query is None else query  # (1 or B, Q)
        distance = _distances(places, events.session.shape[1])  # (1 or B, Q, T)
        is_seen = _is_seen(distance, places, first, self.reach)  # (B, Q, T)
        session = events.session.gather(1, places.expand(len(events.session), -1))  # (B, Q)
        is_same = session[..., None] == events.session[:, None]  # (B, Q, T)
        other, same = pick(self.place, distance.clamp(0, self.reach - 1)).unbind(-1)  # (1 or B, Q, T) each
        weight = torch.where(is_same, same, other)  # (B, Q, T)
        weight = weight * look_up(self.behaviour.exp()[:, None], events.behaviour).mT  # (B, Q, T)
        comes_again = _next_places(events.item, self.reach)[:, None] <= places[..., None]  # (B, Q, T)
        weight = torch.where(comes_again, self.again * weight, weight)  # (B, Q, T)
        return (weight * is_seen) @ events.items  # (B, Q, D)


def look_up(table: Tensor, index: Tensor) -> Tensor:
    """Return rows (..., D) of a table (R, D) at (...): as `table[index]`, but with a gradient that repeats.

    On a CPU the threads that sum the gradient of `table[index]` race, so that no two trainings are alike.
    """
    return functional.embedding(index, table)


def pick(table: Tensor, index: Tensor) -> Tensor:
    """Return what `look_up` does, of a table of a few rows: for many places the gradient costs far less."""
    return functional.one_hot(index, len(table)).to(table.dtype) @ table


def at_places(events: Tensor, places: Tensor) -> Tensor:
    """Return events (B, T, D) at places (B, Q), or (1, Q) where they are the same in all rows: (B, Q, D)."""
    batch, length, _ = events.shape
    of_row = torch.arange(0, batch * length, max(length, 1), device=events.device)[:, None]  # (B, 1)
    return look_up(events.flatten(0, 1), of_row + places)


def _every_place(session: Tensor) -> Tensor:
    return torch.arange(session.shape[1], device=session.device)[None]  # (1, T)


def _distances(places: Tensor, length: int) -> Tensor:
    """Return how many events back of each place (B, Q) each of `length` events is: (B, Q, T)."""
    return places[..., None] - torch.arange(length, device=places.device)


def _next_places(item: Tensor, reach: int) -> Tensor:
    """Return the place (B, T) at which each place's item (B, T) comes again, T where not within the reach.

    Items that are unknown are thought to be different ones.
    """
    length = item.shape[1]
    place = torch.arange(length, device=item.device)
    found = torch.full_like(item, length)
    for ahead in range(min(reach, length) - 1, 0, -1):
        later = item[:, ahead:]  # (B, T - ahead)
        is_same = (item[:, :-ahead] == later) & (later >= FIRST_KNOWN)
        nearer = torch.where(is_same, place[ahead:], found[:, :-ahead])
        found = torch.cat([nearer, found[:, -ahead:]], dim=1)
    return found


def _is_seen(distance: Tensor, places: Tensor, first: Tensor, reach: int) -> Tensor:
    """Return (B, Q, T): whether an event is at the place or before, less than `reach`, not before `first`."""
    return (distance >= 0) & (distance < reach) & (distance <= (places - first)[..., None])
