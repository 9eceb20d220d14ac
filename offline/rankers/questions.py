"""Samples -> batches: the targets themselves, and with them items that are drawn."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from models.arrays import Floats, Ints
from models.ids.vocabulary import Vocabulary
from models.ids.vocabulary_file import FIRST_KNOWN, PADDING, UNKNOWN
from models.rankers.settings import RankerSettings
from offline.rankers.samples import Asked, Samples, features_of, tensors_of
from offline.rankers.settings import Draws, DrawSettings
from offline.training.negatives import negative_sampler


class Drawer:
    """Draws known items, a share of them uniformly, the rest as often as they were targets, to a power."""

    def __init__(self, samples: Samples, vocabulary: Vocabulary, settings: DrawSettings) -> None:
        self.category_of = np.concatenate(([PADDING, UNKNOWN], vocabulary.item_categories))
        self._uniform_share = settings.uniform_share
        self._cumulative = negative_sampler(
            samples.histories.item[samples.target],
            samples.label,
            len(vocabulary.item_ids),
            1,
            settings.uniform_share,
            settings.popularity_power,
        ).cumulative

    def draw(self, shape: tuple[int, ...], random: np.random.Generator) -> Ints:
        """Return item indices of this shape, with replacement."""
        popular = np.searchsorted(self._cumulative, random.random(shape), side="right")
        flat = random.integers(0, len(self._cumulative), shape)
        found: Ints = np.where(random.random(shape) < self._uniform_share, flat, popular) + FIRST_KNOWN
        return found


@dataclass(frozen=True, slots=True)
class Questions:
    """Makes batches of samples, of one ranker's columns, on one device.

    drawer: None where rows are the negatives; draws: what stands beside each positive; weight: how much each
    of these counts beside it.
    """

    samples: Samples
    settings: RankerSettings
    drawer: Drawer | None
    draws: Draws
    weight: float
    device: torch.device

    def asked(self, some: Ints, random: np.random.Generator) -> Asked:
        """Return samples (indices) as a batch; the first candidate of each is the target.

        Behind it are those of the batch, those drawn, and the pool of hard ones; see `hardest`.
        """
        samples, target = self.samples, self.samples.target[some]
        item = samples.histories.item[target].astype(np.int64)[:, None]  # (B, 1)
        category = samples.histories.category[target].astype(np.int64)[:, None]
        label = samples.label[some][:, None]
        weight = np.ones_like(label)
        if self.drawer is not None:
            draws = self.draws
            of_batch = others_of_batch(len(some), draws.in_batch, random)  # (B, N)
            drawn = self.drawer.draw((len(some), draws.drawn + draws.hard * draws.pool), random)  # (B, N)
            beside = np.hstack([item[of_batch, 0], drawn])
            is_other = (beside != item).astype(np.float32)
            weight = np.hstack([weight, is_other * np.float32(self.weight)])
            category = np.hstack([category, category[of_batch, 0], self.drawer.category_of[drawn]])
            item, label = np.hstack([item, beside]), np.hstack([label, np.zeros_like(is_other)])
        events = tensors_of(samples.rows(some, self.settings), self.device)
        features = features_of(samples, some, item, category, self.settings, self.device)
        candidates = self._tensor(item), self._tensor(category)
        return Asked(events, *candidates, self._tensor(label), self._tensor(weight), features)

    def hardest(self, asked: Asked, score: Callable[[Asked], torch.Tensor]) -> Asked:
        """Return a batch whose pool of hard candidates is narrowed to those that score highest."""
        if self.drawer is None or not self.draws.hard:
            return asked
        begin = 1 + self.draws.in_batch + self.draws.drawn
        place = torch.arange(asked.item.shape[1], device=self.device).expand(len(asked.item), -1)
        pool = asked.at(place[:, begin:])
        with torch.no_grad():
            scores = score(pool).masked_fill(pool.weight == 0, -torch.inf)  # (B, P)
        best = scores.topk(self.draws.hard, dim=1).indices
        return asked.at(torch.cat([place[:, :begin], begin + best], dim=1))

    def _tensor(self, values: Ints | Floats) -> torch.Tensor:
        return torch.from_numpy(values).to(self.device)


def others_of_batch(size: int, count: int, random: np.random.Generator) -> Ints:
    """Return rows (B, N) of the same batch for each, never its own; of a batch of one there is no other."""
    further = 1 + random.integers(0, max(size - 1, 1), count)
    found: Ints = (np.arange(size)[:, None] + further) % size
    return found
