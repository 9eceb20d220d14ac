"""Samples -> batches: the targets themselves, and with them items that are drawn."""

from dataclasses import dataclass

import numpy as np
import torch

from models.arrays import Floats, Ints
from models.ids.vocabulary import Vocabulary
from models.ids.vocabulary_file import FIRST_KNOWN, PADDING, UNKNOWN
from models.rankers.settings import RankerSettings
from offline.rankers.samples import Asked, Samples, tensors_of
from offline.rankers.settings import RankerTrainSettings
from offline.training.negatives import negative_sampler


class Drawer:
    """Draws known items, a share of them uniformly, the rest as often as they were targets, to a power."""

    def __init__(self, samples: Samples, vocabulary: Vocabulary, settings: RankerTrainSettings) -> None:
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

    drawer: None where rows are the negatives; negatives: items drawn for each positive; weight: how much each
    of these counts beside a positive.
    """

    samples: Samples
    settings: RankerSettings
    drawer: Drawer | None
    negatives: int
    weight: float
    device: torch.device

    def asked(self, some: Ints, random: np.random.Generator) -> Asked:
        """Return samples (indices) as a batch; the first candidate of each is the target."""
        samples, target = self.samples, self.samples.target[some]
        item = samples.histories.item[target].astype(np.int64)[:, None]  # (B, 1)
        category = samples.histories.category[target].astype(np.int64)[:, None]
        label = samples.label[some][:, None]
        weight = np.ones_like(label)
        if self.drawer is not None:
            drawn = self.drawer.draw((len(some), self.negatives), random)  # (B, N)
            is_other = (drawn != item).astype(np.float32)
            item, weight = np.hstack([item, drawn]), np.hstack([weight, is_other * np.float32(self.weight)])
            category = np.hstack([category, self.drawer.category_of[drawn]])
            label = np.hstack([label, np.zeros_like(is_other)])
        events = tensors_of(samples.rows(some, self.settings), self.device)
        return Asked(events, *(self._tensor(each) for each in (item, category, label, weight)))

    def _tensor(self, values: Ints | Floats) -> torch.Tensor:
        return torch.from_numpy(values).to(self.device)
