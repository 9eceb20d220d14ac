"""The training loop: epochs over stretches of histories, the best one kept by validation."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.amp.grad_scaler import GradScaler
from torch.optim.lr_scheduler import LambdaLR
from tqdm import tqdm

from models.ids.vocabulary_file import FIRST_KNOWN
from models.towers.dual_towers import DualTowers
from offline.ranking.metrics import Ranks, ranks, summarise
from offline.training.data import Stretches, collate, shuffled
from offline.training.objective import Forward, Objective, loss_name, objective_of
from offline.training.parallel import Processes, one_process
from offline.training.progress import Epoch, TrainingProgress
from offline.training.schedules import lr_share
from offline.training.settings import TrainSettings

#: Targets ranked at a time, and about how many are ranked per validation and test.
RANKED_AT_ONCE = 1_024
MAX_RANKED_TARGETS = 5_000
#: Where the number of epochs is not set: it is what gives about so many steps, within these bounds.
DEFAULT_STEPS, MIN_EPOCHS, MAX_EPOCHS = 1_200, 4, 30
#: Share of the epochs, from the first, in which only the direct path learns.
DIRECT_SHARE = 0.5


#: Gradients of all but sparse tables are scaled down to this norm.
MAX_GRADIENT_NORM = 5.0

#: What `fit` has without torchrun: one process, on the CPU.
ONE_PROCESS = one_process("cpu")


def fit(
    towers: DualTowers,
    train: Stretches,
    validation: Stretches,
    settings: TrainSettings,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
    checkpoint: Path | None = None,
    processes: Processes = ONE_PROCESS,
) -> list[Epoch]:
    """Train the towers in place and return all epochs; the towers end with the best epoch's weights.

    The best epoch is that of the highest validation NDCG; the running average of the weights is what is
    validated and kept. In the first DIRECT_SHARE of the epochs only the direct path learns. After each epoch
    the whole state is written to `checkpoint`; if that file exists at the start, training resumes from it, to
    the same result. All processes train alike, and only the first one writes.
    """
    towers.to(processes.device)
    steps = -(-len(train) // stretches_per_step(settings, processes))
    last_epoch = settings.epochs or min(max(round(DEFAULT_STEPS / steps), MIN_EPOCHS), MAX_EPOCHS)
    direct_epochs = 0 if "direct" in settings.without else int(last_epoch * DIRECT_SHARE)
    objective = objective_of(towers, train, settings)
    optimisers = optimisers_of(towers, settings)
    share = partial(
        lr_share, steps=steps * last_epoch, warmup_share=settings.warmup_share, decay=settings.lr_decay
    )
    schedules = [LambdaLR(each, share) for each in optimisers]
    scaler = GradScaler(processes.device.type, enabled=settings.precision == "float16")
    progress = TrainingProgress(towers, optimisers, schedules, scaler)
    if checkpoint is not None and checkpoint.exists():
        progress.restore(checkpoint)
        for epoch in progress.epochs:
            on_epoch(epoch)
    processes.wait()  # until all have read what the first is about to write or to remove
    for number in range(len(progress.epochs) + 1, last_epoch + 1):
        if number - 1 - max(progress.best_number, direct_epochs) >= settings.patience:
            break
        forward = towers.forward_direct if number <= direct_epochs else towers.forward_every
        loss = _one_epoch(progress, number, forward, train, objective, processes)
        found = summarise(target_ranks(progress.averaged_towers, validation, processes=processes))
        progress.add(Epoch(number, loss, found))
        if checkpoint is not None and processes.is_first:
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


def stretches_per_step(settings: TrainSettings, processes: Processes) -> int:
    """Return how many stretches all processes together read per step."""
    return settings.batch_size * settings.accumulate * processes.count


def _one_epoch(
    progress: TrainingProgress,
    number: int,
    forward: Forward,
    train: Stretches,
    objective: Objective,
    processes: Processes,
) -> float:
    """Return the mean loss of one pass.

    All random draws follow from the seed and the epoch's number; some are the same in all processes, others
    are each process's own.
    """
    settings = objective.settings
    random = np.random.default_rng((settings.seed, number, 0))
    own_random = np.random.default_rng((settings.seed, number, 1 + processes.rank))
    torch.manual_seed(int(own_random.integers(2**63)))
    progress.towers.train()
    nothing = torch.zeros((), device=processes.device)
    total = nothing.clone()
    batches = list(shuffled(train, stretches_per_step(settings, processes), random))
    silent = None if processes.is_first else True
    for step, pieces in enumerate(tqdm(batches, desc="epoch", leave=False, disable=silent)):
        objective.prepare(step, random)
        negatives = objective.sampler.draw(random)
        parts = processes.own(np.array_split(pieces, settings.accumulate * processes.count))
        stretches = [collate(train, part, settings.unknown_share, own_random) for part in parts if len(part)]
        stretches = [stretch.to(processes.device) for stretch in stretches]
        weight = sum((objective.weights(stretch).sum() for stretch in stretches), start=nothing)
        weight = processes.total(weight).clamp(min=1e-6)
        for stretch in stretches:
            loss = objective.loss(stretch, forward, negatives) / weight
            progress.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        _step(progress, processes)
    return processes.total(total).item() / max(len(batches), 1)


def _step(progress: TrainingProgress, processes: Processes) -> None:
    """Update the weights by the gradients of all processes, and clear the gradients."""
    optimisers, scaler = progress.optimisers, progress.scaler
    parameters = [optimiser.param_groups[0]["params"] for optimiser in optimisers]
    processes.add_gradients(*parameters)
    for optimiser in optimisers:
        scaler.unscale_(optimiser)
    torch.nn.utils.clip_grad_norm_(parameters[0], MAX_GRADIENT_NORM)
    for optimiser, schedule in zip(optimisers, progress.schedules, strict=True):
        scaler.step(optimiser)
        schedule.step()
        optimiser.zero_grad(set_to_none=True)
    scaler.update()
    progress.average.step(progress.towers)


def target_ranks(
    towers: DualTowers, stretches: Stretches, batch_size: int = 64, processes: Processes = ONE_PROCESS
) -> Ranks:
    """Return the rank of the targets of these stretches among all items, each from all events before it.

    Targets that the vocabulary does not know are skipped. Of more than MAX_RANKED_TARGETS, about that many
    are ranked, from evenly spread pieces. Each process ranks a part; all return all ranks.
    """
    towers.eval()
    targets = int((stretches.wanted & (stretches.histories.item >= FIRST_KNOWN)).sum())
    step = max(1, -(-targets // MAX_RANKED_TARGETS))
    found: list[Ranks] = [np.zeros(0, np.int64)]
    with torch.inference_mode():
        items = towers.item_vectors().T.contiguous()  # (D, I)
        pieces = np.arange(processes.rank * step, len(stretches), processes.count * step)
        for begin in range(0, len(pieces), batch_size):
            stretch = collate(stretches, pieces[begin : begin + batch_size]).to(processes.device)
            wanted = stretch.target > 0  # (B, T)
            user = towers.forward_every(stretch.tokens, stretch.boundary, stretch.short_start, wanted).user
            target = stretch.target[wanted] - FIRST_KNOWN  # (M,)
            for at in range(0, len(target), RANKED_AT_ONCE):
                some = slice(at, at + RANKED_AT_ONCE)
                found.append(ranks((user[some] @ items).cpu().numpy(), target[some].cpu().numpy()))
    return processes.together(np.concatenate(found))
