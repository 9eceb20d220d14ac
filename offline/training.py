"""The training loop: epochs over stretches of histories, the best one kept by validation."""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from models import losses
from models.towers import DualTowers
from models.vocabulary import FIRST_KNOWN
from offline.data import Stretch, Stretches, collate, shuffled
from offline.metrics import Ranking, Ranks, ranks, summarise
from offline.negatives import NegativeSampler, negative_sampler
from offline.settings import TrainSettings

#: Targets ranked at a time; about this many are ranked per validation and test.
RANKED_AT_ONCE = 1_024
MAX_RANKED_TARGETS = 5_000
#: Where the number of epochs is not given: what it is chosen by.
DEFAULT_STEPS, MIN_EPOCHS, MAX_EPOCHS = 800, 3, 30
#: Share of the learning rate that is left in the last step.
LAST_LR_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Epoch:
    """What one pass over the training slice gave."""

    number: int
    loss: float
    validation: Ranking


def fit(
    towers: DualTowers,
    train: Stretches,
    validation: Stretches,
    settings: TrainSettings,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
) -> list[Epoch]:
    """Train in place, leave the weights of the epoch with the best validation NDCG@10, return all epochs."""
    random = np.random.default_rng(settings.seed)
    sampler = _sampler(towers, train, settings)
    optimiser = torch.optim.Adam(towers.parameters(), lr=settings.lr)
    steps = -(-len(train) // settings.batch_size)
    last_epoch = settings.epochs or min(max(round(DEFAULT_STEPS / steps), MIN_EPOCHS), MAX_EPOCHS)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, LAST_LR_SHARE, steps * last_epoch)
    epochs: list[Epoch] = []
    best_ndcg, best_number, best_weights = -1.0, 0, towers.state_dict()
    for number in range(1, last_epoch + 1):
        loss = _one_epoch(towers, train, optimiser, schedule, sampler, settings, random)
        epochs.append(Epoch(number, loss, summarise(target_ranks(towers, validation))))
        on_epoch(epochs[-1])
        if epochs[-1].validation.ndcg_at_10 > best_ndcg:
            best_ndcg = epochs[-1].validation.ndcg_at_10
            best_number, best_weights = number, copy.deepcopy(towers.state_dict())
        elif number - best_number >= settings.patience:
            break
    towers.load_state_dict(best_weights)
    return epochs


def _one_epoch(
    towers: DualTowers,
    train: Stretches,
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    sampler: NegativeSampler,
    settings: TrainSettings,
    random: np.random.Generator,
) -> float:
    """Return the mean loss of one pass."""
    towers.train()
    total, steps = 0.0, 0
    batches = list(shuffled(train, settings.batch_size, random))
    for pieces in tqdm(batches, desc="epoch", leave=False, disable=None):
        stretch = collate(train, pieces, settings.unknown_share, random)
        loss = stretch_loss(towers, stretch, sampler.draw(random), sampler, settings)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(towers.parameters(), 5.0)
        optimiser.step()
        schedule.step()
        total, steps = total + loss.item(), steps + 1
    return total / max(steps, 1)


def stretch_loss(
    towers: DualTowers,
    stretch: Stretch,
    negatives: Tensor,
    sampler: NegativeSampler,
    settings: TrainSettings,
) -> Tensor:
    """Return the next-item loss of every target of a batch, openings included, plus the towers' contrast."""
    wanted = stretch.target > 0  # (B, T)
    seen = towers.forward_every(stretch.tokens, stretch.boundary, stretch.short_start, wanted)
    unseen = towers.unseen(len(stretch.opening))
    user = torch.cat([seen.user, unseen.user])  # (M, D)
    target = torch.cat([stretch.target[wanted], stretch.opening])  # (M,)
    loss = next_item_loss(towers, user, target, negatives, sampler, settings)
    if settings.contrast_weight:
        loss = loss + settings.contrast_weight * losses.tower_contrast(seen.long, seen.short)
    return loss


def next_item_loss(
    towers: DualTowers,
    user: Tensor,
    target: Tensor,
    negatives: Tensor,
    sampler: NegativeSampler,
    settings: TrainSettings,
) -> Tensor:
    """Return the chosen loss of targets (M,) for user vectors (M, D) with shared negatives (N,)."""
    name = settings.loss
    item_count = len(sampler.log_probability)
    if name == "auto":
        name = "full-softmax" if item_count <= settings.full_softmax_items else "sampled-softmax"
    if name == "full-softmax":
        return losses.full_softmax(user @ towers.item_vectors().T, target - FIRST_KNOWN)
    positive = (user * towers.items.outputs(target)).sum(dim=-1)  # (M,)
    negative = user @ towers.items.outputs(negatives).T  # (M, N)
    negative = negative.masked_fill(target[:, None] == negatives, -torch.inf)
    match name:
        case "sampled-softmax":
            log_q, log_q_negative = sampler.log_expected(target), sampler.log_expected(negatives)
            return losses.sampled_softmax(positive, negative, log_q, log_q_negative)
        case "bpr":
            return losses.bpr(positive, negative)
        case "bce":
            return losses.bce(positive, negative)
        case _:
            return losses.gbce(positive, negative, min(len(negatives) / item_count, 1.0))


def _sampler(towers: DualTowers, train: Stretches, settings: TrainSettings) -> NegativeSampler:
    items = train.histories.item[train.wanted & (train.histories.item >= FIRST_KNOWN)]
    count = towers.items.item.num_embeddings - FIRST_KNOWN
    return negative_sampler(items, count, settings.negatives, settings.uniform_share)


def target_ranks(towers: DualTowers, stretches: Stretches, batch_size: int = 64) -> Ranks:
    """Return the rank of the targets of these stretches among all items, each from all events before it.

    Targets that the vocabulary does not know are not asked for. Where there are more than
    MAX_RANKED_TARGETS, about that many, those of evenly spread pieces.
    """
    towers.eval()
    targets = int((stretches.wanted & (stretches.histories.item >= FIRST_KNOWN)).sum())
    step = max(1, -(-targets // MAX_RANKED_TARGETS))
    found: list[Ranks] = [np.zeros(0, np.int64)]
    with torch.inference_mode():
        items = towers.item_vectors().T.contiguous()  # (D, I)
        pieces = np.arange(0, len(stretches), step)
        for begin in range(0, len(pieces), batch_size):
            stretch = collate(stretches, pieces[begin : begin + batch_size])
            wanted = stretch.target > 0  # (B, T)
            user = towers.forward_every(stretch.tokens, stretch.boundary, stretch.short_start, wanted).user
            target = stretch.target[wanted] - FIRST_KNOWN  # (M,)
            for at in range(0, len(target), RANKED_AT_ONCE):
                some = slice(at, at + RANKED_AT_ONCE)
                found.append(ranks((user[some] @ items).numpy(), target[some].numpy()))
    return np.concatenate(found)
