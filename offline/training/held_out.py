"""How well towers rank the targets of held-out stretches, each from all events before it."""

import numpy as np
import torch

from models.ids.vocabulary_file import FIRST_KNOWN
from models.towers.dual_towers import DualTowers
from offline.ranking.metrics import Ranks, ranks
from offline.training.data import Stretches, collate
from offline.training.parallel import Processes, one_process

#: Targets ranked at a time, scores held at most, and about how many targets a validation and a test rank.
RANKED_AT_ONCE = 1_024
MAX_SCORES = 1 << 24
MAX_RANKED_TARGETS = 5_000

#: Without torchrun: one process, on the CPU.
ONE_PROCESS = one_process("cpu")


def target_ranks(
    towers: DualTowers, stretches: Stretches, batch_size: int = 64, processes: Processes = ONE_PROCESS
) -> Ranks:
    """Return the rank of the targets of these stretches among all items, each from all events before it.

    Targets that the vocabulary does not know are skipped. Of more than MAX_RANKED_TARGETS, about that many
    are ranked, from evenly spread pieces. Each process ranks a part; all return all ranks.
    """
    towers.eval()
    targets = int(((stretches.weight > 0) & (stretches.histories.item >= FIRST_KNOWN)).sum())
    step = max(1, -(-targets // MAX_RANKED_TARGETS))
    found: list[Ranks] = [np.zeros(0, np.int64)]
    with torch.inference_mode():
        items = towers.item_vectors().T.contiguous()  # (D, I)
        at_once = max(min(RANKED_AT_ONCE, MAX_SCORES // items.shape[1]), 1)
        pieces = np.arange(processes.rank * step, len(stretches), processes.count * step)
        for begin in range(0, len(pieces), batch_size):
            stretch = collate(stretches, pieces[begin : begin + batch_size]).to(processes.device)
            wanted = stretch.target > 0  # (B, T)
            user = towers.forward_every(stretch.tokens, stretch.boundary, stretch.short_start, wanted).user
            target = stretch.target[wanted] - FIRST_KNOWN  # (M,)
            for at in range(0, len(target), at_once):
                some = slice(at, at + at_once)
                found.append(ranks((user[some] @ items).cpu().numpy(), target[some].cpu().numpy()))
    return processes.together(np.concatenate(found))
