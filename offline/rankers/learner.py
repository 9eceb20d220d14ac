"""How a ranker learns: passes over samples, with Adam."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from models.ids.vocabulary import Vocabulary
from models.ids.vocabulary_file import UNKNOWN
from models.rankers.base import RankerModule
from offline.rankers.questions import Drawer, Questions
from offline.rankers.regularisation import Regularisation
from offline.rankers.samples import Asked, Samples
from offline.rankers.settings import UNKNOWN_SHARES, RankerTrainSettings
from offline.training.row_adam import RowAdam

#: The gradient is cut to this length.
LONGEST_GRADIENT = 5.0


class Learner:
    """A ranker that learns from samples."""

    def __init__(
        self, ranker: RankerModule, samples: Samples, vocabulary: Vocabulary, settings: RankerTrainSettings
    ) -> None:
        self.ranker = ranker
        self.settings = settings
        self.drawer = Drawer(samples, vocabulary, settings)
        self._device = next(ranker.parameters()).device
        is_drawn = settings.negatives_from == "drawn"
        self.questions = Questions(
            samples,
            ranker.settings,
            self.drawer if is_drawn else None,
            settings.negatives,
            1.0,
            self._device,
        )
        self._random = np.random.default_rng(settings.seed)
        self._generator = torch.Generator().manual_seed(settings.seed)
        self._optimisers = _optimisers(ranker, settings.lr)
        self._regularisation = (
            Regularisation(samples, ranker.settings.max_events, ranker.vectors, settings.regularisation)
            if settings.regularisation
            else None
        )
        self._auxiliary_weight = settings.auxiliary_weight
        given = settings.unknown_share
        self._unknown_share = UNKNOWN_SHARES[0] if given is None else given

    def epoch(self) -> float:
        """Learn from every sample once; return the mean loss of the labels."""
        self.ranker.train()
        size, total, weight = self.settings.batch_of(len(self.questions.samples)), 0.0, 0.0
        batches = self.questions.samples.batches(size, self._random)
        steps = -(-len(self.questions.samples) // size)
        for some in tqdm(batches, total=steps, desc="learning", leave=False, disable=None):
            asked = self.questions.asked(some, self._random)
            loss = self._step(asked.with_unknown(self._unknown_share, UNKNOWN, self._generator))
            total, weight = total + loss * len(some), weight + len(some)
        self._auxiliary_weight *= self.settings.auxiliary_decay
        return total / weight

    def _step(self, asked: Asked) -> float:
        loss = label_loss(self.ranker(asked.events, asked.item, asked.category), asked)
        whole = loss
        if self._auxiliary_weight:
            item = self.drawer.draw(tuple(asked.events.item.shape), self._random)
            tensors = (
                torch.from_numpy(each).to(self._device) for each in (item, self.drawer.category_of[item])
            )
            auxiliary = self.ranker.auxiliary_loss(asked.events, *tensors)
            whole = whole if auxiliary is None else whole + self._auxiliary_weight * auxiliary
        if self._regularisation is not None:
            whole = whole + self._regularisation.loss(asked)
        for optimiser in self._optimisers:
            optimiser.zero_grad(set_to_none=True)
        whole.backward()  # type: ignore[no-untyped-call]
        dense = self._optimisers[0].param_groups[0]["params"]
        torch.nn.utils.clip_grad_norm_(dense, LONGEST_GRADIENT)
        for optimiser in self._optimisers:
            optimiser.step()
        return float(loss.detach())


def _optimisers(ranker: RankerModule, lr: float) -> tuple[torch.optim.Optimizer, ...]:
    """Return what moves the layers, and what moves the rows of large tables that a step has read."""
    tables: list[Tensor] = [ranker.vectors.item.weight, ranker.vectors.category.weight]
    dense = [each for each in ranker.parameters() if not any(each is table for table in tables)]
    of_rows = RowAdam(tables, lr) if tables[0].device.type == "cpu" else torch.optim.SparseAdam(tables, lr)
    return torch.optim.Adam(dense, lr), of_rows


def label_loss(scores: Tensor, asked: Asked) -> Tensor:
    """Return the binary cross-entropy of scores (B, C), the mean by weight."""
    each = functional.binary_cross_entropy_with_logits(scores, asked.label, reduction="none")
    return (each * asked.weight).sum() / asked.weight.sum()
