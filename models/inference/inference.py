"""Histories -> vectors: the one way in which offline and online encode, on a CPU or a GPU; needs no torch."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from models.arrays import Floats
from models.encoder import EventWeights, Vectors
from models.inference.cpu_towers import CpuTowers
from models.inference.long_vector_cache import LongVectorCache
from models.inference.mixing import Mixing
from models.towers.histories import EventFeatures, FeatureSettings, Part, tower_spans
from models.towers.weights import TowerWeights
from models.windows.histories import Histories

#: Users encoded in one pass: what it makes on its way still fits a CPU's cache.
PASS_USERS = 1_024


class TowerPath(Protocol):
    """A way to the towers' vectors (B, D) of parts of histories."""

    @property
    def reads_live(self) -> bool: ...
    def long_of(self, histories: Histories, derived: EventFeatures, part: Part) -> Floats: ...
    def short_of(self, histories: Histories, derived: EventFeatures, part: Part) -> Floats: ...


class Inference:
    """Encodes with the dual towers, in one thread at a time; a `models.encoder.UserEncoder`."""

    def __init__(
        self, weights: TowerWeights, settings: FeatureSettings, path: TowerPath, kept_vectors: int = 0
    ) -> None:
        """`path` is how the towers of these weights run; kept_vectors: of how many users who come again the
        long vector is kept.
        """
        self.dimension = weights.settings.dimension
        #: Tower -> of how many users it ran. The long one counts where it had something to read.
        self.made = {"short": 0, "long": 0}
        self._mix = Mixing(weights)
        self._settings = settings
        self._path = path
        self._kept = LongVectorCache(kept_vectors, self.dimension) if kept_vectors else None

    def encode(self, histories: Histories, user_ids: Sequence[str] = ()) -> Vectors:
        """Return the vectors of B users; see `UserEncoder.encode`."""
        vectors = np.empty((3, len(histories), self.dimension), dtype=np.float32)
        for begin in range(0, len(histories), PASS_USERS):
            end = min(begin + PASS_USERS, len(histories))
            some = histories.take(np.arange(begin, end)) if end - begin < len(histories) else histories
            found = self.encode_pass(some, user_ids[begin:end], self._kept if user_ids else None)
            vectors[:, begin:end] = found.user, found.long, found.short
        return Vectors(*vectors)

    def event_weights(self, history: Histories) -> EventWeights | None:
        """Return what the events of one user weigh, None where only the towers of PyTorch can say it."""
        if not isinstance(self._path, CpuTowers):
            return None
        spans = tower_spans(history, self._settings)
        long = self._path.long_of(history, spans.derived, spans.long)
        short = self._path.short_of(history, spans.derived, spans.short)
        share = float(self._mix.short_share(long, short)[0])
        return EventWeights(share, *self._path.event_weights(history, spans))

    @property
    def reads_live(self) -> bool:
        """Whether live items enter the short vectors."""
        return self._path.reads_live

    def forget(self) -> None:
        """Drop all long vectors that are kept."""
        if self._kept:
            self._kept.clear()

    def encode_pass(
        self, histories: Histories, user_ids: Sequence[str] = (), cache: LongVectorCache | None = None
    ) -> Vectors:
        """Return the vectors of B users in one pass; those of the long tower from `cache` where they are.

        user_ids (B,) names the users to `cache`.
        """
        spans = tower_spans(histories, self._settings)

        def make_long(part: Part) -> Floats:
            self.made["long"] += int(np.count_nonzero(part.counts))
            return self._path.long_of(histories, spans.derived, part)

        if cache is None:
            long = make_long(spans.long)
        else:
            long = cache.complete(user_ids, histories, spans, make_long)
        self.made["short"] += len(histories)
        return self._mix(long, self._path.short_of(histories, spans.derived, spans.short))
