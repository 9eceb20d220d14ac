"""How a ranker learns: passes over samples, with Adam."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from models.arrays import Ints
from models.ids.vocabulary import Vocabulary
from models.ids.vocabulary_file import UNKNOWN
from models.rankers.base import RankerModule
from models.rankers.layers import FeatureScale
from offline.rankers.label_loss import LabelLoss
from offline.rankers.passes import groups, step_count
from offline.rankers.questions import Drawer, Questions
from offline.rankers.regularisation import Regularisation
from offline.rankers.samples import Asked, Samples
from offline.rankers.settings import UNKNOWN_SHARES, RankerTrainSettings
from offline.training.row_adam import RowAdam
from offline.training.schedules import rate_of
from offline.training.stepper import Stepper

#: Samples by whose candidates the scale of features is found.
FITTED_SAMPLES = 4_096


class Learner:
    """A ranker that learns from samples."""

    def __init__(
        self, ranker: RankerModule, samples: Samples, vocabulary: Vocabulary, settings: RankerTrainSettings
    ) -> None:
        self.ranker = ranker
        self.settings = settings
        self.drawer = Drawer(samples, vocabulary, settings)
        device = next(ranker.parameters()).device
        own, draws = None, settings.draws(settings.negatives)
        if settings.negatives_from == "drawn":
            own = self.drawer
        self.questions = Questions(samples, ranker.settings, own, draws, 1.0, device)
        self.loss = LabelLoss(settings, *_labels_of(samples, settings))
        self._size = settings.batch_of(len(samples))
        self._random = np.random.default_rng(settings.seed)
        self._generator = torch.Generator().manual_seed(settings.seed)
        steps = settings.epochs * step_count(samples, self._size, settings.accumulate)
        optimisers, rate = _optimisers(ranker, settings.lr), rate_of(settings, steps)
        self._stepper = Stepper(optimisers, rate, device, settings.precision)
        self._regularisation = (
            Regularisation(samples, ranker.settings.max_events, ranker.vectors, settings.regularisation)
            if settings.regularisation
            else None
        )
        self._auxiliary_weight = settings.auxiliary_weight
        given = settings.unknown_share
        self._unknown_share = UNKNOWN_SHARES[0] if given is None else given
        if ranker.features is not None:
            self._fit(ranker.features)

    def epoch(self) -> float:
        """Learn from every sample once; return the mean loss of the labels."""
        self.ranker.train()
        total = weight = 0.0
        for batches in groups(self.questions.samples, self._size, self.settings.accumulate, self._random):
            samples = sum(map(len, batches))
            total, weight = total + self.step(batches) * samples, weight + samples
        self._auxiliary_weight *= self.settings.auxiliary_decay
        return total / weight

    def learning_rate(self) -> float:
        """Return the learning rate of the next step."""
        return self._stepper.learning_rate()

    def step(self, batches: Sequence[Ints]) -> float:
        """Learn from batches as if they were one, and return their mean loss."""
        parts = [self._asked(some) for some in batches]
        whole, samples = sum(self.loss.weight(each) for each in parts), sum(map(len, batches))
        total = 0.0
        for asked, some in zip(parts, batches, strict=True):
            with self._stepper.computing():
                scores = self.ranker(asked.events, asked.item, asked.category, asked.features).float()
                auxiliary = self._auxiliary(asked)
            loss = self.loss.total(scores, asked) / whole
            total += float(loss.detach())
            self._stepper.backward(loss + auxiliary * (len(some) / samples))
        if self._regularisation is not None:
            self._stepper.backward(self._regularisation.loss(parts))
        self._stepper.clip()
        self._stepper.move()
        return total

    def _fit(self, scale: FeatureScale) -> None:
        """Fit the scale of features to candidates of FITTED_SAMPLES samples, evenly spread."""
        every = len(self.questions.samples)
        some = np.linspace(0, every - 1, min(every, FITTED_SAMPLES)).astype(np.int64)
        asked = self.questions.asked(some, np.random.default_rng(self.settings.seed))
        if asked.features is not None:
            scale.fit(asked.features)

    def _asked(self, some: Ints) -> Asked:
        """Return a batch with its hard negatives, a share of its items unknown."""
        asked = self.questions.hardest(self.questions.asked(some, self._random), self._scores_now)
        return asked.with_unknown(self._unknown_share, UNKNOWN, self._generator)

    def _scores_now(self, asked: Asked) -> Tensor:
        self.ranker.eval()
        with self._stepper.computing():
            found: Tensor = self.ranker(asked.events, asked.item, asked.category, asked.features).float()
        self.ranker.train()
        return found

    def _auxiliary(self, asked: Asked) -> Tensor | float:
        """Return what else a batch's loss has."""
        if not self._auxiliary_weight:
            return 0.0
        item = self.drawer.draw(tuple(asked.events.item.shape), self._random)
        tensors = (
            torch.from_numpy(each).to(asked.item.device) for each in (item, self.drawer.category_of[item])
        )
        found = self.ranker.auxiliary_loss(asked.events, *tensors)
        return 0.0 if found is None else self._auxiliary_weight * found.float()


def _labels_of(samples: Samples, settings: RankerTrainSettings) -> tuple[float, float]:
    """Return how many positives and negatives are learned."""
    positives = float(samples.label.sum())
    is_drawn = settings.negatives_from == "drawn"
    return positives, positives * settings.negatives if is_drawn else len(samples) - positives


def _optimisers(ranker: RankerModule, lr: float) -> tuple[torch.optim.Optimizer, ...]:
    """Return what moves the layers, and what moves the rows of large tables that a step has read."""
    tables: list[Tensor] = [ranker.vectors.item.weight, ranker.vectors.category.weight]
    dense = [each for each in ranker.parameters() if not any(each is table for table in tables)]
    of_rows = RowAdam(tables, lr) if tables[0].device.type == "cpu" else torch.optim.SparseAdam(tables, lr)
    return torch.optim.Adam(dense, lr), of_rows
