"""The training loop: epochs over stretches of histories, the best one kept by validation."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.optim.lr_scheduler import LambdaLR
from tqdm import tqdm

from models import losses
from models.features import Tokens
from models.towers import DualTowers, UserVectors
from models.vocabulary import FIRST_KNOWN, PADDING
from offline.data import Stretch, Stretches, collate, shuffled
from offline.metrics import Ranks, ranks, summarise
from offline.negatives import HardNegatives, Negatives, NegativeSampler, negative_sampler
from offline.progress import Epoch, Progress
from offline.schedules import lr_share
from offline.settings import LossName, TrainSettings

#: Targets ranked at a time; about this many are ranked per validation and test.
RANKED_AT_ONCE = 1_024
MAX_RANKED_TARGETS = 5_000
#: Where the number of epochs is not given: what it is chosen by.
DEFAULT_STEPS, MIN_EPOCHS, MAX_EPOCHS = 1_200, 4, 30
#: Share of the epochs, the first ones, in which the direct path learns alone.
DIRECT_SHARE = 0.5


#: Gradients of all but sparse tables are scaled down to this norm.
MAX_GRADIENT_NORM = 5.0

#: What gives the user vectors at the wanted places: `DualTowers.forward_every` or `forward_direct`.
Forward = Callable[[Tokens, Tensor, Tensor, Tensor], UserVectors]


def fit(
    towers: DualTowers,
    train: Stretches,
    validation: Stretches,
    settings: TrainSettings,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
    checkpoint: Path | None = None,
) -> list[Epoch]:
    """Train in place, leave the weights of the epoch with the best validation NDCG, return all epochs.

    What is validated and left is the running average of the weights. In the first DIRECT_SHARE of the epochs
    the direct path learns alone. After each, all is written to `checkpoint`; where that is there at first,
    training goes on from it, to the same result.
    """
    steps = -(-len(train) // settings.batch_size)
    last_epoch = settings.epochs or min(max(round(DEFAULT_STEPS / steps), MIN_EPOCHS), MAX_EPOCHS)
    direct_epochs = 0 if "direct" in settings.without else int(last_epoch * DIRECT_SHARE)
    sampler = _sampler(towers, train, settings)
    optimisers = optimisers_of(towers, settings)
    share = partial(
        lr_share, steps=steps * last_epoch, warmup_share=settings.warmup_share, decay=settings.lr_decay
    )
    schedules = [LambdaLR(each, share) for each in optimisers]
    progress = Progress(towers, optimisers, schedules, settings.seed)
    if checkpoint is not None and checkpoint.exists():
        progress.restore(checkpoint)
        for epoch in progress.epochs:
            on_epoch(epoch)
    for number in range(len(progress.epochs) + 1, last_epoch + 1):
        if number - 1 - max(progress.best_number, direct_epochs) >= settings.patience:
            break
        forward = towers.forward_direct if number <= direct_epochs else towers.forward_every
        loss = _one_epoch(progress, forward, train, sampler, settings)
        with progress.average.in_place():
            progress.add(Epoch(number, loss, summarise(target_ranks(towers, validation))))
        if checkpoint is not None:
            progress.save(checkpoint)
        on_epoch(progress.epochs[-1])
    towers.load_state_dict(progress.best_weights)
    return progress.epochs


def optimisers_of(towers: DualTowers, settings: TrainSettings) -> list[torch.optim.Optimizer]:
    """Return Adam, and for the tables of items, where a step touches few of them, one that is sparse.

    Adam moves every row of a table in every step; with 300,000 items that costs more than all the rest.
    """
    tables = [towers.items.item, towers.items.item_difference]
    is_sparse = loss_name(towers, settings) != "full-softmax"
    for table in tables:
        table.sparse = is_sparse
    if not is_sparse:
        return [torch.optim.Adam(towers.parameters(), lr=settings.lr)]
    rows = [table.weight for table in tables]
    others = [each for each in towers.parameters() if all(each is not row for row in rows)]
    return [torch.optim.Adam(others, lr=settings.lr), torch.optim.SparseAdam(rows, lr=settings.lr)]


def loss_name(towers: DualTowers, settings: TrainSettings) -> LossName:
    """Return the chosen loss; `auto` means full softmax where the catalogue allows it."""
    if settings.loss != "auto":
        return settings.loss
    item_count = towers.items.item.num_embeddings - FIRST_KNOWN
    return "full-softmax" if item_count <= settings.full_softmax_items else "sampled-softmax"


def _one_epoch(
    progress: Progress, forward: Forward, train: Stretches, sampler: NegativeSampler, settings: TrainSettings
) -> float:
    """Return the mean loss of one pass."""
    towers, random, optimisers = progress.towers, progress.random, progress.optimisers
    towers.train()
    total, steps = 0.0, 0
    clipped = optimisers[0].param_groups[0]["params"]
    hard = HardNegatives(towers, settings.hard_negatives)
    batches = list(shuffled(train, settings.batch_size, random))
    for pieces in tqdm(batches, desc="epoch", leave=False, disable=None):
        if settings.hard_negatives and steps % settings.hard_refresh_steps == 0:
            hard.refresh(random)
        stretch = collate(train, pieces, settings.unknown_share, random)
        loss = stretch_loss(towers, forward, stretch, sampler.draw(random), sampler, hard, settings)
        for optimiser in optimisers:
            optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(clipped, MAX_GRADIENT_NORM)
        for optimiser, schedule in zip(optimisers, progress.schedules, strict=True):
            optimiser.step()
            schedule.step()
        progress.average.step()
        total, steps = total + loss.item(), steps + 1
    return total / max(steps, 1)


def stretch_loss(
    towers: DualTowers,
    forward: Forward,
    stretch: Stretch,
    negatives: Tensor,
    sampler: NegativeSampler,
    hard: HardNegatives,
    settings: TrainSettings,
) -> Tensor:
    """Return the next-item loss of every target of a batch, openings included, plus the towers' contrast."""
    wanted = stretch.target > 0  # (B, T)
    seen = forward(stretch.tokens, stretch.boundary, stretch.short_start, wanted)
    unseen = towers.unseen(len(stretch.opening))
    user = torch.cat([seen.user, unseen.user])  # (M, D)
    target = torch.cat([stretch.target[wanted], stretch.opening])  # (M,)
    behaviour = torch.cat([stretch.target_behaviour[wanted], stretch.opening_behaviour])  # (M,)
    if settings.in_batch_negatives:
        negatives = torch.cat([negatives, target])  # (N + M,)
    chosen = Negatives(negatives, _hard(hard, user, stretch, settings))
    weight = torch.tensor(settings.behaviour_weights)[behaviour - 1]  # (M,)
    loss = losses.weighted_mean(next_item_loss(towers, user, target, chosen, sampler, settings), weight)
    if settings.contrast_weight and forward == towers.forward_every:
        loss = loss + settings.contrast_weight * losses.tower_contrast(seen.long, seen.short).mean()
    return loss


def next_item_loss(
    towers: DualTowers,
    user: Tensor,
    target: Tensor,
    negatives: Negatives,
    sampler: NegativeSampler,
    settings: TrainSettings,
) -> Tensor:
    """Return the chosen loss (M,) of targets (M,) for user vectors (M, D)."""
    name = loss_name(towers, settings)
    if name == "full-softmax":
        return losses.full_softmax(user @ towers.item_vectors().T, target - FIRST_KNOWN)
    positive = (user * towers.items.outputs(target)).sum(dim=-1)  # (M,)
    shared = user @ towers.items.outputs(negatives.shared).T  # (M, N)
    hard = torch.einsum("md,mkd->mk", user, towers.items.outputs(negatives.hard))  # (M, K)
    items = negatives.items()  # (M, N + K)
    is_none = (items == PADDING) | (items == target[:, None])
    negative = torch.cat([shared, hard], dim=1).masked_fill(is_none, -torch.inf)
    match name:
        case "sampled-softmax":
            of_batch = len(target) if settings.in_batch_negatives else 0
            log_q = sampler.log_expected(target, of_batch)  # (M,)
            log_q = log_q.masked_fill(negatives.are_hard(target[:, None])[:, 0], 0.0)
            log_q_shared = sampler.log_expected(negatives.shared, of_batch).expand_as(shared)  # (M, N)
            log_q_negative = torch.cat([log_q_shared, torch.zeros_like(hard)], dim=1)  # (M, N + K)
            return losses.sampled_softmax(positive, negative, log_q, log_q_negative)
        case "bpr":
            return losses.bpr(positive, negative)
        case "bce":
            return losses.bce(positive, negative)
        case _:
            return losses.gbce(positive, negative, min(items.shape[1] / len(sampler.probability), 1.0))


def _hard(hard: HardNegatives, user: Tensor, stretch: Stretch, settings: TrainSettings) -> Tensor:
    """Return the hard negatives (M, K) of user vectors (M, D): those of wanted places, then of openings."""
    nothing = torch.zeros(len(user), 0, dtype=torch.int64, device=user.device)
    if not settings.hard_negatives:
        return nothing
    if settings.hard_from_history:
        return hard.find(user, nothing)
    row, place = (stretch.target > 0).nonzero(as_tuple=True)  # (W,) each
    read = stretch.tokens.item[row]  # (W, T)
    is_later = torch.arange(read.shape[1], device=read.device) > place[:, None]
    history = read.masked_fill(is_later, PADDING)  # (W, T)
    return hard.find(user, functional.pad(history, (0, 0, 0, len(user) - len(history))))


def _sampler(towers: DualTowers, train: Stretches, settings: TrainSettings) -> NegativeSampler:
    items = train.histories.item[train.wanted & (train.histories.item >= FIRST_KNOWN)]
    count = towers.items.item.num_embeddings - FIRST_KNOWN
    drawn = settings.negatives - settings.hard_negatives
    return negative_sampler(items, count, drawn, settings.uniform_share, settings.popularity_power)


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
