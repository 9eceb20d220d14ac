"""DIEN: how a user's interest came about, and how what a candidate makes active of it evolves.

Source: Zhou et al., Deep Interest Evolution Network for Click-Through Rate Prediction (arXiv 1809.03672). The
first GRU and all products with its states do not know the candidates.

Letters: B users, T events, C candidates, D dimension.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.ids.vocabulary import Vocabulary
from models.rankers.attention import Bilinear
from models.rankers.base import RankerModule
from models.rankers.layers import Events, Features
from models.rankers.settings import Evolution, RankerSettings


class Dien(RankerModule):
    """A GRU with an auxiliary loss, attention with a softmax, and a GRU that attention steers."""

    state = (("interests", 1), ("entering", 1), ("is_real", 1), ("taste", None))

    def __init__(self, vocabulary: Vocabulary, settings: RankerSettings) -> None:
        super().__init__(vocabulary, settings)
        dimension = settings.dimension
        self.extractor = nn.GRU(dimension, dimension, batch_first=True)
        self.attention = Bilinear(dimension, softmax=True)
        self.of_input = nn.Linear(dimension, 3 * dimension)
        self.of_state = nn.Linear(dimension, 3 * dimension, bias=False)
        self.scorer = self.make_scorer(4)

    def of_user(self, events: Events) -> tuple[Tensor, ...]:
        """Return what attention makes of interests, what enters the second GRU, which are real, a mean."""
        vectors, is_real = self.vectors.events(events), self.is_real(events)
        taste = vectors.sum(dim=1) / is_real.sum(dim=1, keepdim=True).clamp(min=1)
        interests = self._interests(vectors)
        # AIGRU weighs what enters, so there the bias waits until it has.
        entering = functional.linear(interests, self.of_input.weight)
        return self.attention.keys_of(interests), entering, is_real.float(), taste

    def of_candidates(
        self, state: Sequence[Tensor], item: Tensor, category: Tensor, features: Features | None = None
    ) -> tuple[Tensor, Tensor]:
        interests, entering, is_real, taste = state
        candidates = self.vectors.candidates(item, category)
        weights = self.attention.weights(candidates, interests, is_real > 0)  # (B, C, T)
        evolved = evolve(
            entering,
            self.of_input.bias,
            self.of_state.weight.T,
            weights,
            is_real,
            torch.tensor(_EVOLUTIONS.index(self.settings.evolution)),
        )
        of_user = taste.unsqueeze(1).expand_as(candidates)
        vectors = [candidates, of_user, candidates * of_user, evolved]
        return self.scored(vectors, features), weights

    def auxiliary_loss(self, events: Events, item: Tensor, category: Tensor) -> Tensor | None:
        """Return how badly interests tell the event that came next from an item that was drawn (eq. 7).

        The mean over pairs of events that are there, so that padding does not count; both parts of it weigh
        alike. What came next is its item and category. None where no user has two events.
        """
        is_pair = self.is_real(events)[:, 1:]  # events of a row stand without a gap from the first place on
        if not is_pair.any():
            return None
        interests = self._interests(self.vectors.events(events))[:, :-1]
        came = self.vectors.candidates(events.item, events.category)[:, 1:]
        drawn = self.vectors.candidates(item, category)[:, 1:]
        return next_event_loss(interests, came, drawn, is_pair)

    def _interests(self, vectors: Tensor) -> Tensor:
        """Return the states (B, T, D) of the first GRU; padding behind changes none that is read."""
        first = vectors.new_zeros(1, vectors.shape[0], vectors.shape[2])
        found: Tensor = self.extractor(vectors, first)[0]
        return found


def next_event_loss(interests: Tensor, came: Tensor, drawn: Tensor, is_pair: Tensor) -> Tensor:
    """Return how badly interests (B, T, D) tell came from drawn: the mean over pairs (B, T)."""
    chosen, refused = ((interests * vectors).sum(dim=-1) for vectors in (came, drawn))
    losses = functional.softplus(-chosen) + functional.softplus(refused)
    return (losses * is_pair).sum() / is_pair.sum()


#: How attention enters the second GRU, by its number.
_EVOLUTIONS: tuple[Evolution, ...] = ("augru", "aigru", "agru")


@torch.jit.script_if_tracing  # type: ignore[untyped-decorator]
def evolve(
    entering: Tensor, bias: Tensor, of_state: Tensor, weights: Tensor, is_real: Tensor, evolution: Tensor
) -> Tensor:
    """Return the last state (B, C, D) of the second GRU.

    entering (B, T, 3 D): interests by the gates' weights (update, reset, new), without bias; weights
    (B, C, T) what attention says of them. evolution: 0 AUGRU, where attention scales the update gate; 1
    AIGRU, where it scales what enters; 2 AGRU, where it is the update gate (section 4.3). Padding
    keeps the state.
    """
    users, candidates, events = weights.shape
    dimension = of_state.shape[0]
    state = entering.new_zeros(users, candidates, dimension)
    for event in range(events):
        weight = weights[:, :, event].unsqueeze(2)  # (B, C, 1)
        into = entering[:, event].unsqueeze(1)  # (B, 1, 3 D)
        if bool(evolution == 1):
            into = into * weight
        into = into + bias
        known = state @ of_state
        gates = torch.sigmoid(into[:, :, : 2 * dimension] + known[:, :, : 2 * dimension])
        new = torch.tanh(into[:, :, 2 * dimension :] + gates[:, :, dimension:] * known[:, :, 2 * dimension :])
        update = gates[:, :, :dimension]
        if bool(evolution == 0):
            update = update * weight
        if bool(evolution == 2):
            update = weight.expand_as(new)
        update = update * is_real[:, event].unsqueeze(1).unsqueeze(2)
        state = (1 - update) * state + update * new
    return state
