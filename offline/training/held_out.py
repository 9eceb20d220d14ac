"""How well towers rank the targets of held-out stretches, each from all events before it."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

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
    return ranks_of(towers, asked_users(towers, stretches, batch_size, processes), processes)


@dataclass(frozen=True, slots=True)
class AskedUsers:
    """Users as they were before targets: vectors (M, D), and which of the known items the target (M,) is."""

    vectors: Tensor
    target: Tensor


def asked_users(
    towers: DualTowers, stretches: Stretches, batch_size: int = 64, processes: Processes = ONE_PROCESS
) -> AskedUsers:
    """Return this process's part of the users that `target_ranks` asks for."""
    towers.eval()
    targets = int(((stretches.weight > 0) & (stretches.histories.item >= FIRST_KNOWN)).sum())
    step = max(1, -(-targets // MAX_RANKED_TARGETS))
    vectors = [torch.zeros(0, towers.settings.dimension, device=processes.device)]
    places = [torch.zeros(0, dtype=torch.int64, device=processes.device)]
    pieces = np.arange(processes.rank * step, len(stretches), processes.count * step)
    with torch.inference_mode():
        for begin in range(0, len(pieces), batch_size):
            stretch = collate(stretches, pieces[begin : begin + batch_size]).to(processes.device)
            wanted = stretch.target > 0  # (B, T)
            found = towers.forward_every(stretch.tokens, stretch.boundary, stretch.short_start, wanted)
            vectors.append(found.user)
            places.append(stretch.target[wanted] - FIRST_KNOWN)  # (M,)
        return AskedUsers(torch.cat(vectors), torch.cat(places))


def ranks_of(towers: DualTowers, asked: AskedUsers, processes: Processes = ONE_PROCESS) -> Ranks:
    """Return the ranks of all processes' targets by what the items' vectors are now."""
    with torch.inference_mode():
        return ranks_among(towers.item_vectors(), asked, processes)


def ranks_among(vectors: Tensor, asked: AskedUsers, processes: Processes = ONE_PROCESS) -> Ranks:
    """Return the ranks of all processes' targets among items of these vectors (I, D)."""
    found: list[Ranks] = [np.zeros(0, np.int64)]
    with torch.inference_mode():
        items = vectors.T.contiguous()  # (D, I)
        at_once = max(min(RANKED_AT_ONCE, MAX_SCORES // items.shape[1]), 1)
        for begin in range(0, len(asked.target), at_once):
            some = slice(begin, begin + at_once)
            scores = (asked.vectors[some] @ items).cpu().numpy()
            found.append(ranks(scores, asked.target[some].cpu().numpy()))
    return processes.together(np.concatenate(found))
