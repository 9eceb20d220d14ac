"""The dual towers: recent events -> short vector, older ones -> long vector, gated -> the user's vector."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.ids.vocabulary import Vocabulary
from models.ids.vocabulary_file import FIRST_KNOWN
from models.towers.asked import asked_places, distinct
from models.towers.features import Tokens, TowerInputs
from models.towers.histories import GAP_BUCKETS, FeatureSettings
from models.towers.layers import DirectPath, Dropout, Embedded, EmbeddedItems, Tower, at_places
from models.towers.settings import (
    BEHAVIOUR_ROWS,
    POPULARITY_UNIT,
    SHORTEST,
    SHORTEST_ENTERING,
    ModelSettings,
)
from models.towers.weights import TowerWeights

#: By what the scores are multiplied at first, by how they are made: a cosine alone tells too little apart.
START_SCALE = {"dot": 4.0, "cosine": 16.0}


@dataclass(frozen=True, slots=True)
class TowerVectors:
    """user, long, short (..., D): the mixed vector and the two towers' own, all in the space of the items."""

    user: Tensor
    long: Tensor
    short: Tensor


class ItemEmbedding(nn.Module):
    """Items as they enter the towers, and as they are scored: a share of the same plus a learned difference.

    Both are the sum of the item's and its category's, so that a rare item leans on its category. The shared
    part scores high what a user just had: right where users return to items, wrong where they never do.

    Scored by dot product, the last coordinate of an output is not learned: it holds `popularity` (I,), what
    every user's score of the item begins with, that of the present when the training ended; 0 in training.
    """

    item_categories: Tensor
    popularity: Tensor

    def __init__(self, vocabulary: Vocabulary, settings: ModelSettings) -> None:
        super().__init__()
        dimension, score = settings.dimension, settings.score
        self.score, self.length = score, settings.item_length
        self.item = nn.Embedding(vocabulary.item_count, dimension)
        self.category = nn.Embedding(vocabulary.category_count, dimension)
        self.item_difference = nn.Embedding(vocabulary.item_count, dimension)
        self.category_difference = nn.Embedding(vocabulary.category_count, dimension)
        self.share = nn.Parameter(torch.ones(dimension))
        self.popularity_weight = nn.Parameter(torch.full((), float(score == "dot")), score == "dot")
        self.register_buffer("popularity", torch.zeros(vocabulary.item_count))
        categories = np.pad(vocabulary.item_categories, (FIRST_KNOWN, 0))
        self.register_buffer("item_categories", torch.from_numpy(categories), persistent=False)
        nn.init.normal_(self.item.weight, std=dimension**-0.5)
        nn.init.normal_(self.category.weight, std=0.5 * dimension**-0.5)
        for table in (self.item_difference, self.category_difference):
            nn.init.zeros_(table.weight)
        with torch.no_grad():
            self.item.weight[:FIRST_KNOWN] = 0
            self.category.weight[:FIRST_KNOWN] = 0

    def expect_returns(self, share: float) -> None:
        """Start from what the log says: 0 where users never return to an item, 1 where they mostly do.

        The share is learned too, but moves less in a whole training than from 1 to 0.
        """
        nn.init.constant_(self.share, share)

    def forward(self, item: Tensor, category: Tensor) -> Tensor:
        """Return what enters the towers, (..., D), of item and category indices (...)."""
        entering: Tensor = self.item(item) + self.category(category)  # (..., D)
        if self.length == "free":
            return entering
        return functional.normalize(entering, dim=-1, eps=SHORTEST_ENTERING)

    def outputs(self, item: Tensor) -> Tensor:
        """Return the vectors (..., D) by which items (...) of known index are scored."""
        category = self.item_categories[item]  # (...)
        difference: Tensor = self.item_difference(item) + self.category_difference(category)  # (..., D)
        vectors = difference + self.share * self.forward(item, category)  # (..., D)
        if self.score == "cosine":
            return of_length_one(vectors)
        begins_with = self.popularity[item] / POPULARITY_UNIT  # (...)
        return torch.cat([vectors[..., :-1], begins_with[..., None]], dim=-1)  # (..., D)

    @torch.no_grad()
    def set_popularity(self, log_share: Tensor) -> None:
        """Let scores begin with the log of each known item's share of events (I,), by its learned weight."""
        self.popularity[FIRST_KNOWN:] = self.popularity_weight * (log_share - log_share.mean())


class DualTowers(nn.Module):
    """Item embedding, short tower, long tower, gate."""

    #: What turns all vectors, users' and items' (D, D), orthogonal; None where nothing does (rotation.py).
    rotation: Tensor | None

    def __init__(self, vocabulary: Vocabulary, features: FeatureSettings, settings: ModelSettings) -> None:
        super().__init__()
        dimension = settings.dimension
        self.settings = settings
        self.items = ItemEmbedding(vocabulary, settings)
        self.behaviour = nn.Embedding(BEHAVIOUR_ROWS, dimension)
        self.gap = nn.Embedding(GAP_BUCKETS, dimension)
        self.direct = DirectPath(features.short_events)
        self.short_tower = Tower(dimension, settings.heads, settings.dropout, 1, features.short_events)
        self.long_tower = Tower(
            dimension, settings.heads, settings.dropout, settings.long_layers, features.long_events
        )
        # From 0 on the Transformers add to the direct path only what helps it (ReZero, arXiv 2003.04887).
        self.short_scale = nn.Parameter(torch.zeros(dimension))
        self.long_scale = nn.Parameter(torch.zeros(dimension))
        # Of a user without events; so named in every artifact's weights.
        self.unseen_short = nn.Parameter(torch.zeros(dimension))
        self.unseen_long = nn.Parameter(torch.zeros(dimension))
        self.gate = nn.Linear(2 * dimension, 1)
        self.everyone = nn.Parameter(torch.zeros(dimension))
        self.temperature = nn.Parameter(torch.tensor(math.log(START_SCALE[settings.score])))
        self.dropout = Dropout(settings.dropout)
        self.register_buffer("rotation", None)
        for table in (self.behaviour, self.gap):
            nn.init.normal_(table.weight, std=0.1 * dimension**-0.5)
        nn.init.zeros_(self.gate.weight)
        nn.init.constant_(self.gate.bias, 2.0)

    def short_vectors(self, events: Embedded, query: Tensor | None, first: Tensor) -> Tensor:
        """Return (B, Q, D): the short vector when place query (B, Q) is the newest, reading from first on."""
        direct: Tensor = self.direct(events, query, first)  # (B, Q, D)
        deep: Tensor = self.short_tower(events, query, first)  # (B, Q, D)
        return direct + self.short_scale * deep

    def long_vectors(self, events: Embedded, query: Tensor | None) -> Tensor:
        """Return (B, Q, D): the long vector of the events up to place query (B, Q) and with it."""
        first = torch.zeros_like(events.session if query is None else query)  # (B, Q)
        deep: Tensor = self.long_tower(events, query, first)  # (B, Q, D)
        return self.long_scale * deep

    def mix(self, long: Tensor, short: Tensor) -> TowerVectors:
        """Return the user's vectors of the towers' (..., D): gated, scaled, shifted by everyone's taste."""
        of_towers = (self._turned(self._scaled(vectors)) for vectors in (long, short))
        return TowerVectors(self.user(long, short), *of_towers)

    def user(self, long: Tensor, short: Tensor) -> Tensor:
        """Return the user's vector (..., D) alone."""
        share = torch.sigmoid(self.gate(torch.cat([short, long], dim=-1)))  # (..., 1)
        return self._turned(self._scaled(share * short + (1 - share) * long))

    def _scaled(self, vectors: Tensor) -> Tensor:
        scale = self.temperature.exp()
        if self.settings.score == "dot":
            vectors = vectors * scale + self.everyone  # (..., D)
            return functional.pad(vectors[..., :-1], (0, 1), value=POPULARITY_UNIT)
        return of_length_one(vectors + self.everyone) * scale  # (..., D)

    def forward(self, batch: TowerInputs) -> TowerVectors:
        """Return each user's vectors (B, D) from the whole of what `features` made of their history."""
        return self.mix(self.long_of(batch.long), self.short_of(batch.short))

    def long_of(self, tokens: Tokens) -> Tensor:
        """Return each user's long vector (B, D) of what the long tower reads; its own for nothing."""
        cold_start = self.unseen_long.expand(len(tokens.count), -1)  # (B, D)
        if not tokens.item.shape[1]:
            return cold_start
        has_events, last = last_place(tokens)
        return torch.where(
            has_events, self.long_vectors(self.embed(tokens), last)[:, 0], cold_start
        )  # (B, D)

    def short_of(self, tokens: Tokens) -> Tensor:
        """Return each user's short vector (B, D) of what the short tower reads; its own for nothing."""
        cold_start = self.unseen_short.expand(len(tokens.count), -1)  # (B, D)
        if not tokens.item.shape[1]:
            return cold_start
        has_events, last = last_place(tokens)
        found = self.short_vectors(self.embed(tokens), last, torch.zeros_like(last))[:, 0]  # (B, D)
        return torch.where(has_events, found, cold_start)  # (B, D)

    def forward_every(
        self, tokens: Tokens, boundary: Tensor, short_start: Tensor, wanted: Tensor
    ) -> TowerVectors:
        """Return the vectors (M, D) at the wanted places (B, T) of histories, each seen as the newest there.

        One causal pass for all of them: boundary, short_start (B, T) are the place's own, from
        `EventFeatures`. Equal to `forward` of each history cut off behind its place, as long as none is
        longer than the towers read.
        """
        asked = asked_places(wanted, short_start, self.direct.reach)
        events = self.embed(tokens)
        short = self.short_vectors(asked.embedded(events), asked.query, asked.first)[asked.wanted]  # (M, D)
        boundary = asked.at_query(boundary)  # (B, Q)
        boundaries, number = distinct(boundary)  # (B, U), (B, Q)
        long = self.long_vectors(events, (boundaries - 1).clamp(min=0))  # (B, U, D)
        of_asked = at_places(long, number)[asked.wanted]  # (M, D)
        has_long = (boundary > 0)[asked.wanted][:, None]  # (M, 1)
        return self.mix(torch.where(has_long, of_asked, self.unseen_long), short)

    def forward_direct(self, tokens: Tokens, boundary: Tensor, short_start: Tensor, wanted: Tensor) -> Tensor:
        """Return the users of `forward_every`, (M, D), while both Transformers' scales are 0, as at first.

        Training starts with it: on little data the direct path must stand before the Transformers learn what
        it leaves over, and it costs a tenth.
        """
        asked = asked_places(wanted, short_start, self.direct.reach)
        read = asked.tokens(tokens)
        events = EmbeddedItems(self._items(read), read.item, read.behaviour, read.session)
        short = self.direct(events, asked.query, asked.first)[asked.wanted]  # (M, D)
        has_long = (asked.at_query(boundary) > 0)[asked.wanted][:, None]  # (M, 1)
        return self.user(self.unseen_long * ~has_long, short)

    def weights(self) -> TowerWeights:
        """Return the weights as plain arrays, which share the parameters' memory where that is the CPU's."""
        arrays = {name: tensor.detach().cpu().numpy() for name, tensor in self.state_dict().items()}
        categories = self.items.item_categories.cpu().numpy()
        return TowerWeights(arrays, self.settings, categories)

    def cold_start(self, count: int) -> Tensor:
        """Return the vectors (count, D) of cold-start users."""
        return self.user(self.unseen_long[None], self.unseen_short[None]).expand(count, -1)

    def item_vectors(self) -> Tensor:
        """Return (I, D), the vectors of the known items in the order of the vocabulary."""
        count = self.items.item.num_embeddings
        return self._turned(self.items.outputs(torch.arange(FIRST_KNOWN, count, device=self.everyone.device)))

    def _turned(self, vectors: Tensor) -> Tensor:
        return vectors if self.rotation is None else vectors @ self.rotation

    def embed(self, tokens: Tokens) -> Embedded:
        """Return the tokens as vectors."""
        items = self._items(tokens)
        events = items + self.behaviour(tokens.behaviour) + self.gap(tokens.gap)  # (B, T, D)
        return Embedded(items, tokens.item, tokens.behaviour, tokens.session, events)

    def _items(self, tokens: Tokens) -> Tensor:
        """Return their items as vectors (B, T, D)."""
        dropped: Tensor = self.dropout(self.items(tokens.item, tokens.category))
        return dropped


def of_length_one(vectors: Tensor) -> Tensor:
    """Return vectors (..., D) of the same directions and length 1; near 0, where none is known, shorter."""
    return functional.normalize(vectors, dim=-1, eps=SHORTEST)


def last_place(tokens: Tokens) -> tuple[Tensor, Tensor]:
    """Return whether each user has events, (B, 1), and the place (B, 1) of the last, 0 without."""
    return tokens.count[:, None] > 0, (tokens.count - 1).clamp(min=0)[:, None]
