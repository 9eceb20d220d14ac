"""Two towers that learn from a log and from features: which item did this user choose, beside those drawn?"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from models.arrays import Flags, Floats, Ints
from models.errors import DataError
from models.ids.log_vocabulary import vocabulary_of_log
from models.ids.vocabulary import Vocabulary
from models.ids.vocabulary_file import FIRST_KNOWN, UNKNOWN
from models.log.behaviour_log import BehaviourLog
from models.rankers.settings import RankerSettings
from models.two_tower.two_tower_model import TwoTowerModel
from models.two_tower.weights import UserTower
from offline.rankers.label_loss import LabelLoss
from offline.rankers.passes import groups, step_count
from offline.rankers.questions import Drawer, Questions
from offline.rankers.samples import Asked, check_samples, material_of
from offline.training.parallel import one_process
from offline.training.schedules import rate_of
from offline.training.stepper import Stepper
from offline.two_tower.features import Table
from offline.two_tower.network import Side, TwoTowers, as_array
from offline.two_tower.settings import TrainingSection, TwoTowerConfig

#: Users and items that are written at a time.
AT_ONCE = 4_096


class TwoTowerLearner:
    """Two towers that learn; an `offline.encoders.run.Learner`.

    user_ids: who has an id of their own, those of the log, and then those of the file of users alone; so for
    items, in the vocabulary.
    """

    def __init__(
        self, log: BehaviourLog, rows: Flags, config: TwoTowerConfig, users: Table, items: Table
    ) -> None:
        """rows (R,): which of the log's are learned. Raises DataError where fewer than two are positive."""
        self._config = config
        known = log.select(rows)
        learned = vocabulary_of_log(known, config.data.min_item_count, config.data.max_items)
        self.vocabulary = with_others(learned, items)
        self._learned_items = len(learned.item_ids)
        self.user_ids = known.user.values[np.unique(known.user.codes)].tolist()
        self._learned_users = len(self.user_ids)
        self.user_ids += sorted(set(users.ids) - set(self.user_ids))
        torch.manual_seed(config.training.seed)
        self._device = one_process(config.training.device).device
        of_users, of_items = users.features(self.user_ids), items.features(self.vocabulary.item_ids)
        self.towers = TwoTowers(
            Side(1 + self._learned_users, of_users, config.model),
            Side(1 + self._learned_items, of_items, config.model),
            learned.item_count,
            learned.category_count,
            config.model,
        ).to(self._device)
        reads = RankerSettings(
            max_events=config.model.history_events, horizon_ms=config.data.horizon_ms, features=False
        )
        samples = material_of(known, learned, reads).samples(np.ones(len(known), np.bool_), config.drawing)
        check_samples(log, "training", samples, config.drawing)
        if len(samples) < 2:
            raise DataError(
                f"{log.path}: one row of those that are learned is positive, and batch normalisation needs "
                "two: give a longer log, or other positives"
            )
        training, drawer = config.training, Drawer(samples, learned, config.training)
        draws = training.draws(training.num_negatives)
        self.questions = Questions(samples, reads, drawer, draws, 1.0, self._device)
        self.loss = LabelLoss(training, 1, training.num_negatives)
        self._random = np.random.default_rng(config.training.seed)
        self._generator = torch.Generator().manual_seed(config.training.seed)
        optimiser = torch.optim.Adam(
            self.towers.parameters(), training.learning_rate, weight_decay=training.weight_decay
        )
        steps = training.epochs * step_count(samples, training.batch_size, training.accumulate)
        rate = partial(_rate, settings=training, beside=rate_of(training, steps))
        self._stepper = Stepper([optimiser], rate, self._device, training.precision)

    def epoch(self) -> float:
        """Learn from every positive once; return the mean loss."""
        self.towers.train()
        samples, training = self.questions.samples, self._config.training
        total = count = 0.0
        for batches in groups(samples, training.batch_size, training.accumulate, self._random):
            # Batch normalisation has nothing to compare one user with; the next pass has others beside it.
            enough = [some for some in batches if len(some) > 1]
            learned = sum(map(len, enough))
            total, count = total + (self._step(enough) * learned if enough else 0), count + learned
        return total / max(count, 1)

    def _step(self, batches: Sequence[Ints]) -> float:
        """Learn from batches as if they were one, and return their mean loss."""
        users = [torch.from_numpy(self.questions.samples.user[some]).to(self._device) for some in batches]
        parts = [self._asked(some, user) for some, user in zip(batches, users, strict=True)]
        whole, total = sum(map(self.loss.weight, parts)), 0.0
        for asked, user in zip(parts, users, strict=True):
            with self._stepper.computing():
                scores = self.scores(asked, user).float()
            loss = self.loss.total(scores, asked) / whole
            total += float(loss.detach())
            self._stepper.backward(loss)
        self._stepper.clip()
        self._stepper.move()
        return total

    def _asked(self, some: Ints, user: Tensor) -> Asked:
        """Return a batch with its hard negatives, of users (B,)."""

        def score(asked: Asked) -> Tensor:
            self.towers.eval()
            with self._stepper.computing():
                found = self.scores(asked, user).float()
            self.towers.train()
            return found

        return self.questions.hardest(self.questions.asked(some, self._random), score)

    def learning_rate(self) -> float:
        """Return the learning rate of the next step."""
        return self._stepper.learning_rate()

    def scores(self, asked: Asked, user: Tensor) -> Tensor:
        """Return the scores (B, C) of candidates for users (B,), a share of what is known hidden."""
        events = asked.events
        events = events._replace(item=self._hidden(events.item, UNKNOWN) * (events.item > 0))
        row = self._hidden(1 + user, 0)  # strangers
        vectors = self.towers.user(self._hidden(row, 0), row, events)  # (B, D)
        place = (asked.item - FIRST_KNOWN + 1).clamp(min=0).flatten()  # 0: unknown
        items = self.towers.item(self._hidden(place, 0), place).reshape(*asked.item.shape, -1)  # (B, C, D)
        return torch.einsum("bd,bcd->bc", vectors, items)

    def _hidden(self, values: Tensor, instead: int) -> Tensor:
        chance = torch.rand(values.shape, generator=self._generator).to(values.device)
        return torch.where(chance < self._config.training.unknown_share, instead, values)

    def model(self) -> TwoTowerModel:
        """Return the model as it is now, its batch normalisation folded into the layers."""
        towers = self.towers.eval()
        with torch.inference_mode():
            known = self._written(towers.users, 1 + len(self.user_ids), self._learned_users)
            tower = UserTower(
                as_array(torch.cat(known)),
                self._events(as_array(towers.event_item.weight)),
                as_array(towers.event_category.weight),
                towers.user_layers.folded(),
            )
            parts = self._written(towers.items, 1 + len(self.vocabulary.item_ids), self._learned_items)
            vectors = as_array(torch.cat([towers.item_layers(part) for part in parts]))[1:]
        return TwoTowerModel(tower, self._config.model, self.user_ids, vectors)

    def _written(self, side: Side, count: int, learned: int) -> list[Tensor]:
        """Return what is known (N, F) of all of a side, in parts; who was not in the log has no id."""
        rows = torch.arange(count, device=self._device)
        ids = torch.where(rows <= learned, rows, 0)
        parts = zip(torch.split(ids, AT_ONCE), torch.split(rows, AT_ONCE), strict=True)
        return [side(*part) for part in parts]

    def _events(self, vectors: Floats) -> Floats:
        """Return the vectors (I + 2, E) of events of all items; those not in the log are unknown items'."""
        others = len(self.vocabulary.item_ids) - self._learned_items
        return np.concatenate([vectors, np.repeat(vectors[[UNKNOWN]], others, axis=0)])


def with_others(learned: Vocabulary, items: Table) -> Vocabulary:
    """Return the vocabulary with the items after it that only their features tell of, where there are any."""
    columns = items.columns
    if not (columns.categorical or columns.numeric or columns.history):
        return learned
    known = set(learned.item_ids)
    others = [item_id for item_id in items.ids if item_id not in known]
    categories = [*learned.item_categories.tolist(), *[UNKNOWN] * len(others)]
    return Vocabulary([*learned.item_ids, *others], categories, learned.category_ids)


def _rate(step: int, settings: TrainingSection, beside: Callable[[int], float]) -> float:
    """Return a step's share of the learning rate: down by the factor now and then, beside the schedule."""
    times = step // settings.learning_rate_decay_steps
    return float(settings.learning_rate_decay_factor**times) * beside(step)
