"""DSIN: a user's sessions, how each leads to the next, and which of them a candidate makes active.

Source: Feng et al., Deep Session Interest Network for Click-Through Rate Prediction (arXiv 1905.06482). All
but the last attention does not know the candidates.

Letters: B users, S sessions, L events of one, T = S L, C candidates, D dimension.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.ids.vocabulary import Vocabulary
from models.rankers.attention import Bilinear, MultiHead
from models.rankers.base import RankerModule
from models.rankers.layers import FIRST_SPREAD, Events, Features
from models.rankers.settings import RankerSettings


class BiasEncoding(nn.Module):
    """What is added to an event by its session, its place in that, and by the dimension (eq. 2)."""

    def __init__(self, sessions: int, length: int, dimension: int) -> None:
        super().__init__()
        self.session = nn.Parameter(torch.randn(sessions, 1, 1) * FIRST_SPREAD)
        self.place = nn.Parameter(torch.randn(1, length, 1) * FIRST_SPREAD)
        self.unit = nn.Parameter(torch.randn(1, 1, dimension) * FIRST_SPREAD)

    def forward(self, length: int) -> Tensor:
        """Return (S, length, D); places beyond those of a session are padding, and get anything."""
        place = functional.pad(self.place, (0, 0, 0, max(length - self.place.shape[1], 0)))
        return self.session + place + self.unit


class SessionInterest(nn.Module):
    """Events of a session -> its interest: self-attention, a layer of its own, and the mean (eq. 3 to 6)."""

    def __init__(self, settings: RankerSettings) -> None:
        super().__init__()
        dimension = settings.dimension
        self.attention = MultiHead(dimension, softmax=True, heads=settings.heads)
        self.attended = nn.LayerNorm(dimension)
        self.inner = nn.Linear(dimension, 2 * dimension)
        self.outer = nn.Linear(2 * dimension, dimension)
        self.out = nn.LayerNorm(dimension)

    def forward(self, events: Tensor, is_real: Tensor) -> Tensor:
        """Return the interest (N, D) of N sessions with events (N, L, D), 0 of one without events."""
        seen, _ = self.attention(events, self.attention.keys_of(events), is_real)
        seen = self.attended(events + seen)
        found = self.out(seen + self.outer(functional.relu(self.inner(seen))))  # (N, L, D)
        total = (found * is_real.unsqueeze(-1)).sum(dim=1)
        return total / is_real.sum(dim=1, keepdim=True).clamp(min=1)  # type: ignore[no-any-return]


class OneWay(nn.Module):
    """An LSTM over sessions that steps over those without events (eq. 7)."""

    def __init__(self, dimension: int, units: int) -> None:
        super().__init__()
        self.of_input = nn.Linear(dimension, 4 * units)
        self.of_state = nn.Linear(units, 4 * units, bias=False)
        self.units = units

    def forward(self, interests: Tensor, is_real: Tensor, order: Sequence[int]) -> list[Tensor]:
        """Return the state (B, H) at each session of interests (B, S, D), in the sessions' own order."""
        entering = self.of_input(interests)
        state = cell = entering[:, 0, : self.units] * 0
        found = [state] * len(order)
        for place in order:
            gates = entering[:, place] + self.of_state(state)
            into, forget, new, out = gates.chunk(4, dim=-1)
            changed = torch.sigmoid(forget) * cell + torch.sigmoid(into) * torch.tanh(new)
            real = is_real[:, place, None]
            state = torch.where(real, torch.sigmoid(out) * torch.tanh(changed), state)
            cell = torch.where(real, changed, cell)
            found[place] = state
        return found


class Dsin(RankerModule):
    """Session interests, the Bi-LSTM's view of them, and an attention over each."""

    state = (
        ("interests", None),
        ("evolved", None),
        ("are_sessions", None),
        ("shares", None),
        ("taste", None),
    )

    def __init__(self, vocabulary: Vocabulary, settings: RankerSettings) -> None:
        super().__init__(vocabulary, settings)
        dimension, sessions = settings.dimension, settings.sessions
        self.bias = BiasEncoding(sessions, settings.max_events // sessions, dimension)
        self.interest = SessionInterest(settings)
        self.forwards, self.backwards = (OneWay(dimension, dimension // 2) for _ in range(2))
        self.of_interests, self.of_evolved = (Bilinear(dimension, softmax=True) for _ in range(2))
        self.scorer = self.make_scorer(5)

    def of_user(self, events: Events) -> tuple[Tensor, ...]:
        """Return what both attentions make of the sessions, which there are, events' shares, their mean."""
        sessions, dimension = self.settings.sessions, self.settings.dimension
        users, length = events.item.shape[0], events.item.shape[1] // sessions
        vectors, is_real = self.vectors.events(events), self.is_real(events)
        taste = vectors.sum(dim=1) / is_real.sum(dim=1, keepdim=True).clamp(min=1)
        of_session = is_real.reshape(users * sessions, length)
        biased = vectors.reshape(users, sessions, length, dimension) + self.bias(length)
        interests = self.interest(biased.reshape(users * sessions, length, dimension), of_session)
        interests = interests.reshape(users, sessions, dimension)
        counts = of_session.sum(dim=1).reshape(users, sessions)
        evolved = self._evolved(interests, counts > 0)
        shares = is_real.reshape(users, sessions, length) / counts.clamp(min=1).unsqueeze(-1)
        keys = self.of_interests.keys_of(interests), self.of_evolved.keys_of(evolved)
        return *keys, (counts > 0).float(), shares, taste

    def of_candidates(
        self, state: Sequence[Tensor], item: Tensor, category: Tensor, features: Features | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return scores, and as what each event counted its part of what its session did (in eq. 8)."""
        interests, evolved, are_sessions, shares, taste = state
        candidates, are_real = self.vectors.candidates(item, category), are_sessions > 0
        seen, weights = self.of_interests(candidates, interests, are_real)  # (B, C, D), (B, C, S)
        evolving, _ = self.of_evolved(candidates, evolved, are_real)
        of_user = taste.unsqueeze(1).expand_as(candidates)
        entering = [candidates, of_user, candidates * of_user, seen, evolving]
        counted = weights.unsqueeze(-1) * shares.unsqueeze(1)  # (B, C, S, L)
        return self.scored(entering, features), counted.flatten(2)

    def _evolved(self, interests: Tensor, is_real: Tensor) -> Tensor:
        """Return what the Bi-LSTM makes of sessions (B, S, D): both ways side by side."""
        order = range(self.settings.sessions)
        ways = self.forwards(interests, is_real, order), self.backwards(interests, is_real, order[::-1])
        return torch.stack([torch.cat(pair, dim=-1) for pair in zip(*ways, strict=True)], dim=1)
