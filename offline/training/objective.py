"""What a training step minimises: the losses of a batch's targets against their negatives."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from models.ids.vocabulary_file import FIRST_KNOWN, PADDING
from models.towers.dual_towers import DualTowers
from offline.training import losses
from offline.training.data import Stretch, Stretches
from offline.training.lessons import Lessons
from offline.training.negatives import HardNegatives, Negatives, NegativeSampler, negative_sampler
from offline.training.popularity import Popularity
from offline.training.progress import Learns
from offline.training.settings import LossName, TrainSettings
from offline.training.shared_softmax import shared_softmax
from offline.training.stepper import autocast


@dataclass(frozen=True, slots=True)
class Objective:
    """The loss of some towers, and where its negatives come from.

    Shapes: B stretches of T places, M targets of them (at W wanted places, and the openings), N negatives
    shared by all, K hard ones of each, D dimension.
    """

    towers: DualTowers
    settings: TrainSettings
    sampler: NegativeSampler
    hard: HardNegatives
    popularity: Popularity
    #: What a teacher says of some of the targets.
    lessons: Lessons | None = None

    def prepare(self, step: int, random: np.random.Generator) -> None:
        """Get ready for a step of an epoch, 0 for its first."""
        if self.settings.hard_negatives and step % self.settings.hard_refresh_steps == 0:
            self.hard.refresh(random)

    def weights(self, stretch: Stretch) -> Tensor:
        """Return the weight (M,) of every target."""
        return torch.cat([stretch.target_weight[stretch.target > 0], stretch.opening_weight])  # (M,)

    def loss(self, stretch: Stretch, learns: Learns, negatives: Tensor) -> Tensor:
        """Return the sum of the losses of all targets, each by its weight; negatives (N,).

        A target's loss is its next-item loss, plus the towers' contrast at wanted places, and what is not yet
        as the teacher has it.
        """
        settings, wanted = self.settings, stretch.target > 0  # (B, T)
        seen, contrast = self._users(stretch, learns)  # (W, D), (W,)
        user = torch.cat([seen, self.towers.cold_start(len(stretch.opening))])  # (M, D)
        target = torch.cat([stretch.target[wanted], stretch.opening])  # (M,)
        if settings.in_batch_negatives:
            negatives = torch.cat([negatives, target])  # (N + M,)
        time_ms = torch.cat([stretch.target_ms[wanted], stretch.opening_ms])  # (M,)
        period = self.popularity.period_of(time_ms)  # (M,)
        loss = self.next_item(user, target, period, Negatives(negatives, self._hard(user, stretch)))  # (M,)
        openings = (0, len(loss) - len(seen))
        if contrast is not None:
            loss = loss + settings.contrast_weight * functional.pad(contrast, openings)
        if self.lessons is not None:
            taught = self._taught(self.lessons, seen, stretch.event[wanted], period[: len(seen)])  # (W,)
            loss = loss + settings.teacher_weight * functional.pad(taught, openings)
        return (loss * self.weights(stretch)).sum()

    def _users(self, stretch: Stretch, learns: Learns) -> tuple[Tensor, Tensor | None]:
        """Return the users (W, D) at wanted places and, where it counts, the towers' contrast (W,)."""
        towers, wanted = self.towers, stretch.target > 0  # (B, T)
        read = stretch.tokens, stretch.boundary, stretch.short_start, wanted
        with autocast(wanted.device.type, self.settings.precision):
            if learns == "direct":
                return towers.forward_direct(*read).float(), None
            seen = towers.forward_every(*read)
        if not self.settings.contrast_weight:
            return seen.user.float(), None
        return seen.user.float(), losses.tower_contrast(seen.long.float(), seen.short.float())

    def _taught(self, lessons: Lessons, user: Tensor, event: Tensor, period: Tensor) -> Tensor:
        """Return how far users (W, D) are from what is taught of targets (W,), in periods (W,); 0 if not."""
        row = lessons.rows(event)  # (W,)
        taught = (row >= 0).nonzero()[:, 0]  # (L,)
        item, share = lessons.item[row[taught]], lessons.share[row[taught]]  # (L, C) each
        scores = torch.einsum("md,mcd->mc", user[taught], self.towers.items.outputs(item))
        scores = scores + self.towers.items.popularity_weight * self.popularity.of(period[taught], item)
        scores = scores.masked_fill(item == PADDING, -torch.inf)
        loss = losses.listwise(scores, share, self.settings.teacher_temperature)  # (L,)
        return torch.zeros_like(user[:, 0]).index_add(0, taught, loss)

    def next_item(self, user: Tensor, target: Tensor, period: Tensor, negatives: Negatives) -> Tensor:
        """Return the chosen loss (M,) of targets (M,) in these periods (M,) for user vectors (M, D)."""
        items, name, popular = self.towers.items, loss_name(self.towers, self.settings), self.popularity
        positive = (user * items.outputs(target)).sum(dim=-1)  # (M,)
        of_target = popular.of(period, target[:, None])[:, 0]  # (M,)
        positive = positive + items.popularity_weight * of_target  # (M,)
        if name == "full-softmax":
            begins = items.popularity_weight * popular.log_share.T  # (P, I)
            return shared_softmax(
                user, self.towers.item_vectors(), begins, period, positive, target - FIRST_KNOWN
            )
        if name == "sampled-softmax" and not negatives.hard.shape[1]:
            return self._sampled_softmax(user, target, period, positive, negatives.shared)
        shared = user @ items.outputs(negatives.shared).T  # (M, N)
        hard = torch.einsum("md,mkd->mk", user, items.outputs(negatives.hard))  # (M, K)
        compared = negatives.items()  # (M, N + K)
        log_share = popular.of_all(negatives.shared)[period], popular.of(period, negatives.hard)
        begins_with = items.popularity_weight * torch.cat(log_share, dim=1)  # (M, N + K)
        is_none = (compared == PADDING) | (compared == target[:, None])
        negative = torch.cat([shared, hard], dim=1) + begins_with  # (M, N + K)
        negative = negative.masked_fill(is_none, -torch.inf)
        match name:
            case "sampled-softmax":
                log_q, log_q_negative = self._log_q(target, negatives)
                return losses.sampled_softmax(positive, negative, log_q, log_q_negative)
            case "bpr":
                return losses.bpr(positive, negative)
            case "bce":
                return losses.bce(positive, negative)
            case _:
                rate = min(compared.shape[1] / len(self.sampler.probability), 1.0)
                return losses.gbce(positive, negative, rate)

    def _sampled_softmax(
        self, user: Tensor, target: Tensor, period: Tensor, positive: Tensor, shared: Tensor
    ) -> Tensor:
        """Return the loss (M,) of targets (M,) with these scores (M,), against shared negatives (N,)."""
        of_batch = len(target) if self.settings.in_batch_negatives else 0
        items = self.towers.items
        drawn, times = torch.unique(shared, return_counts=True)  # (U,)
        offset = times.log() - self.sampler.log_expected(drawn, of_batch)  # (U,)
        begins = items.popularity_weight * self.popularity.of_all(drawn) + offset  # (P, U)
        place = torch.searchsorted(drawn, target).clamp(max=len(drawn) - 1)  # (M,)
        place = torch.where(drawn[place] == target, place, -1)
        positive = positive - self.sampler.log_expected(target, of_batch)
        return shared_softmax(user, items.outputs(drawn), begins, period, positive, place)

    def _log_q(self, target: Tensor, negatives: Negatives) -> tuple[Tensor, Tensor]:
        """Return log q of targets (M,) and their negatives (M, N + K); hard ones are certain: 0."""
        of_batch = len(target) if self.settings.in_batch_negatives else 0
        log_q = self.sampler.log_expected(target, of_batch)  # (M,)
        log_q = log_q.masked_fill(negatives.are_hard(target[:, None])[:, 0], 0.0)
        shared = self.sampler.log_expected(negatives.shared, of_batch).expand(len(target), -1)  # (M, N)
        return log_q, functional.pad(shared, (0, negatives.hard.shape[1]))

    def _hard(self, user: Tensor, stretch: Stretch) -> Tensor:
        """Return the hard negatives (M, K) of user vectors (M, D)."""
        nothing = torch.zeros(len(user), 0, dtype=torch.int64, device=user.device)
        if not self.settings.hard_negatives:
            return nothing
        if self.settings.hard_from_history:
            return self.hard.find(user, nothing)
        row, place = (stretch.target > 0).nonzero(as_tuple=True)  # (W,) each
        read = stretch.tokens.item[row]  # (W, T)
        is_later = torch.arange(read.shape[1], device=read.device) > place[:, None]
        history = read.masked_fill(is_later, PADDING)  # (W, T)
        return self.hard.find(user, functional.pad(history, (0, 0, 0, len(user) - len(history))))


def objective_of(
    towers: DualTowers,
    train: Stretches,
    popularity: Popularity,
    settings: TrainSettings,
    lessons: Lessons | None = None,
) -> Objective:
    """Return the objective of towers, on the device where they are, over the targets of these stretches."""
    items, weight = train.histories.item, train.weight
    count = towers.items.item.num_embeddings - FIRST_KNOWN
    drawn = settings.negatives - settings.hard_negatives
    sampler = negative_sampler(items, weight, count, drawn, settings.uniform_share, settings.popularity_power)
    hard = HardNegatives(towers, settings.hard_negatives)
    device = towers.everyone.device
    taught = lessons and lessons.to(device)
    return Objective(towers, settings, sampler.to(device), hard, popularity.to(device), taught)


def loss_name(towers: DualTowers, settings: TrainSettings) -> LossName:
    """Return the chosen loss; `auto` means full softmax where the catalogue allows it."""
    if settings.loss != "auto":
        return settings.loss
    item_count = towers.items.item.num_embeddings - FIRST_KNOWN
    return "full-softmax" if item_count <= settings.full_softmax_items else "sampled-softmax"
