"""Events -> the towers' vectors on any device: the towers themselves, on padded tensors in length buckets."""

import copy
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from models.features import EventFeatures, Histories, Ints, Part, Tokens, long_tokens, pad
from models.towers import DualTowers

#: The narrowest bucket; each is twice as wide as the one before, so that less than half of a row is padding.
NARROWEST = 8


class PaddedTowers:
    """Dual towers of any depth on a device; on CUDA with pinned memory and copies that nobody waits for."""

    def __init__(self, towers: DualTowers, device: str = "cpu", bfloat16: bool = False) -> None:
        self._device = torch.device(device)
        self._is_cuda = self._device.type == "cuda"
        self._bfloat16 = bfloat16
        self._towers = copy.deepcopy(towers).eval().to(self._device) if self._is_cuda else towers

    def long_of(self, histories: Histories, derived: EventFeatures, part: Part) -> Tensor:
        """Return the long vectors (B, D) of these parts."""
        return self._by_bucket(
            part, lambda some: self._towers.long_of(self._sent(long_tokens(histories, derived, some)))
        )

    def short_of(self, histories: Histories, derived: EventFeatures, part: Part) -> Tensor:
        """Return the short vectors (B, D) of these parts."""
        return self._by_bucket(
            part, lambda some: self._towers.short_of(self._sent(pad(histories, derived, *some)))
        )

    def _by_bucket(self, part: Part, run: Callable[[Part], Tensor]) -> Tensor:
        vectors = torch.empty(len(part.counts), self._towers.settings.dimension)
        users = list(buckets(part.counts))
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bfloat16):
            found = [run(part.take(each)) for each in users]
        for each, some in zip(users, found, strict=True):  # the device has all its work before anyone waits
            vectors[torch.from_numpy(each)] = some.float().cpu()
        return vectors

    def _sent(self, tokens: Tokens) -> Tokens:
        if not self._is_cuda:
            return tokens
        columns = (tokens.item, tokens.category, tokens.behaviour, tokens.gap, tokens.session, tokens.count)
        return Tokens(*(each.pin_memory().to(self._device, non_blocking=True) for each in columns))


def buckets(counts: Ints) -> Iterator[Ints]:
    """Yield the users (indices) of each bucket of about equal counts (B,), the shortest first."""
    order = np.argsort(counts, kind="stable")
    widths = NARROWEST * 2 ** np.arange(32)
    ends = np.searchsorted(counts[order], widths, side="right")
    yield from (some for some in np.split(order, np.unique(ends)) if len(some))
