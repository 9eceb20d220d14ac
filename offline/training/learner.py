"""Towers that learn, an epoch at a time: optimisers, learning rate, steps, and the running average."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from models.arrays import Ints
from models.ids.vocabulary_file import FIRST_KNOWN, PADDING
from models.towers.dual_towers import DualTowers
from offline.training.data import Stretches, collate, shuffled
from offline.training.lessons import Lessons
from offline.training.objective import Objective, loss_name, objective_of
from offline.training.parallel import Processes
from offline.training.popularity import popularity_of
from offline.training.progress import Learns, TrainingProgress
from offline.training.row_adam import RowAdam
from offline.training.schedules import rate_of
from offline.training.settings import TrainSettings
from offline.training.stepper import Stepper

#: Stretches per batch where it is not set: at least, as small logs learn best from many steps; at most, by
#: the kind of device, which is busy with so many; and in between as many as give a pass so many steps.
SMALL_BATCH = 8
BATCH = {"cpu": 32, "cuda": 64}
STEPS = {"cpu": 4_000, "cuda": 300}
#: A table of categories of more rows than this learns as those of items do: a step touches fewer.
MANY_CATEGORIES = 2_048


@dataclass(frozen=True, slots=True)
class Course:
    """Over how many epochs the learning rate falls, and the half-life of popularity (h)."""

    epochs: int
    popularity_h: float


class Learner:
    """Some towers that learn from stretches, in place; `progress` has the running average, which is kept."""

    def __init__(
        self,
        towers: DualTowers,
        train: Stretches,
        settings: TrainSettings,
        course: Course,
        processes: Processes,
        lessons: Lessons | None = None,
    ) -> None:
        """lessons: what a teacher says of some of the targets."""
        towers.to(processes.device)
        towers.items.popularity.zero_()
        self._train, self._processes = train, processes
        self._objective = _objective(towers, train, settings, course.popularity_h, lessons)
        rate = rate_of(settings, steps_of(train, settings, processes) * course.epochs)
        stepper = Stepper(optimisers_of(towers, settings), rate, processes.device, settings.precision)
        self.progress = TrainingProgress(towers, stepper)

    def averaged(self) -> DualTowers:
        """Return the towers with averaged weights, whose scores begin with the present's popularity."""
        towers = self.progress.averaged_towers
        towers.items.set_popularity(self._objective.popularity.at_end)
        return towers

    def epoch(self, number: int, learns: Learns) -> float:
        """Learn from the stretches once and return the mean loss.

        All random draws follow from the seed and the epoch's number; some are the same in all processes,
        others are each process's own.
        """
        settings, processes = self._objective.settings, self._processes
        random = np.random.default_rng((settings.seed, number, 0))
        own_random = np.random.default_rng((settings.seed, number, 1 + processes.rank))
        torch.manual_seed(int(own_random.integers(2**63)))
        self.progress.towers.train()
        total = torch.zeros((), device=processes.device)
        batches = list(shuffled(self._train, stretches_per_step(self._train, settings, processes), random))
        silent = None if processes.is_first else True
        for step, pieces in enumerate(tqdm(batches, desc="epoch", leave=False, disable=silent)):
            self._objective.prepare(step, random)
            negatives = self._objective.sampler.draw(random)
            total += self._step(pieces, learns, negatives, own_random)
        self.progress.passes = number
        return processes.total(total).item() / max(len(batches), 1)

    def _step(self, pieces: Ints, learns: Learns, negatives: Tensor, random: np.random.Generator) -> Tensor:
        """Learn from pieces, this process from its part of them, and return its part of the mean loss."""
        objective, processes = self._objective, self._processes
        settings = objective.settings
        total = torch.zeros((), device=processes.device)
        parts = processes.own(np.array_split(pieces, settings.accumulate * processes.count))
        stretches = [
            collate(self._train, part, settings.unknown_share, random) for part in parts if len(part)
        ]
        stretches = [stretch.to(processes.device) for stretch in stretches]
        weight = sum((objective.weights(stretch).sum() for stretch in stretches), start=total.clone())
        weight = processes.total(weight).clamp(min=1e-6)
        for stretch in stretches:
            loss = objective.loss(stretch, learns, negatives) / weight
            self.progress.stepper.backward(loss)
            total += loss.detach()
        _update(self.progress, processes)
        return total


def _objective(
    towers: DualTowers,
    train: Stretches,
    settings: TrainSettings,
    popularity_h: float,
    lessons: Lessons | None,
) -> Objective:
    item = np.where(train.weight > 0, train.histories.item, PADDING)
    item_count = towers.items.item.num_embeddings - FIRST_KNOWN
    popularity = popularity_of(item, train.histories.time_ms, item_count, popularity_h)
    return objective_of(towers, train, popularity, settings, lessons)


def steps_of(train: Stretches, settings: TrainSettings, processes: Processes) -> int:
    """Return how many steps a pass over these stretches has, at least 1."""
    count = float(train.share.sum())
    return max(-(-round(count) // stretches_per_step(train, settings, processes)), 1)


def stretches_per_step(train: Stretches, settings: TrainSettings, processes: Processes) -> int:
    """Return how many stretches all processes together read per step.

    Where it is not set, more are read at a time the more there are, as far as that keeps the device busy.
    """
    at_once, kind = settings.accumulate * processes.count, processes.device.type
    affordable = round(float(train.share.sum())) // (at_once * STEPS[kind])
    size = settings.batch_size or min(max(affordable, SMALL_BATCH), BATCH[kind])
    return size * at_once


def optimisers_of(towers: DualTowers, settings: TrainSettings) -> list[torch.optim.Optimizer]:
    """Return Adam, and for the tables of which a step touches few rows, one that is sparse.

    Adam moves every row of a table in every step; with 300,000 items that costs more than all the rest.
    """
    items = towers.items
    is_sampled = loss_name(towers, settings) != "full-softmax"
    has_many = is_sampled and items.category.num_embeddings > MANY_CATEGORIES
    items.item.sparse = items.item_difference.sparse = is_sampled
    items.category.sparse = items.category_difference.sparse = has_many
    tables = (items.item, items.item_difference, items.category, items.category_difference)
    rows = [table.weight for table in tables if table.sparse]
    if not rows:
        return [torch.optim.Adam(towers.parameters(), lr=settings.lr, fused=True)]
    others = [each for each in towers.parameters() if all(each is not row for row in rows)]
    by_row = RowAdam if towers.everyone.device.type == "cpu" else torch.optim.SparseAdam
    return [torch.optim.Adam(others, lr=settings.lr, fused=True), by_row(rows, lr=settings.lr)]


def _update(progress: TrainingProgress, processes: Processes) -> None:
    """Update the weights by the gradients of all processes, and clear the gradients."""
    stepper = progress.stepper
    parameters = stepper.parameters
    processes.add_gradients(*parameters)
    stepper.clip()
    for row_table in (each for group in parameters[1:] for each in group):
        if row_table.grad is not None:
            row_table.grad = row_table.grad.coalesce()  # once, for all who read it
    progress.average.before_step()
    stepper.move()
    progress.average.step()
