"""Histories -> vectors: the one way in which offline and online encode, on a CPU or a GPU."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from models.arrays import Floats
from models.inference.cpu_towers import CpuTowers
from models.inference.long_vector_cache import LongVectorCache
from models.inference.padded_towers import PaddedTowers
from models.towers.dual_towers import DualTowers
from models.towers.histories import EventFeatures, FeatureSettings, Part, tower_spans
from models.windows.histories import Histories

#: Users encoded in one pass: what it makes on its way still fits a CPU's cache.
PASS_USERS = 1_024


@dataclass(frozen=True, slots=True)
class Vectors:
    """user, long, short (B, D) float32: each user's vector, and the two towers' it is mixed from."""

    user: Floats
    long: Floats
    short: Floats


class TowerPath(Protocol):
    """A way to the towers' vectors (B, D) of parts of histories, float32 on the CPU."""

    def long_of(self, histories: Histories, derived: EventFeatures, part: Part) -> Tensor: ...
    def short_of(self, histories: Histories, derived: EventFeatures, part: Part) -> Tensor: ...


class Inference:
    """Encodes with one model, in one thread at a time."""

    def __init__(self, towers: DualTowers, settings: FeatureSettings, path: TowerPath | None = None) -> None:
        """`path` is how the towers run: by default the fastest that a CPU has for them."""
        self.dimension = towers.settings.dimension
        self._towers = towers
        self._settings = settings
        self._path = path or (CpuTowers(towers) if CpuTowers.can_run(towers) else PaddedTowers(towers))

    def encode(self, histories: Histories) -> Vectors:
        """Return the vectors of B users; one without events gets the vector of a cold-start user.

        A user's vector does not depend on who else is encoded with them (up to rounding, 1e-5).
        """
        vectors = np.empty((3, len(histories), self.dimension), dtype=np.float32)
        for begin in range(0, len(histories), PASS_USERS):
            users = np.arange(begin, min(begin + PASS_USERS, len(histories)))
            found = self.encode_pass(histories.take(users))
            vectors[:, users] = found.user, found.long, found.short
        return Vectors(*vectors)

    @torch.inference_mode()
    def encode_pass(
        self, histories: Histories, user_ids: Sequence[str] = (), cache: LongVectorCache | None = None
    ) -> Vectors:
        """Return the vectors of B users in one pass; those of the long tower from `cache` where they are.

        user_ids (B,) names the users to `cache`.
        """
        spans = tower_spans(histories, self._settings)

        def make_long(part: Part) -> Tensor:
            return self._path.long_of(histories, spans.derived, part)

        if cache is None:
            long = make_long(spans.long)
        else:
            long = cache.complete(user_ids, histories, spans, make_long)
        short = self._path.short_of(histories, spans.derived, spans.short)
        mixed = self._towers.mix(long, short)
        return Vectors(mixed.user.numpy(), mixed.long.numpy(), mixed.short.numpy())
