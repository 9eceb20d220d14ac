"""The running average of a model's weights: less noisy than the weights themselves, and it ranks better."""

import copy
import math
from typing import Any

import numpy as np
import torch
from torch import nn

from models.arrays import Doubles, Floats, Ints
from models.compiled import compiled_with_fast_sums

#: Steps between two updates; steps after which that begins (before, each step updates); and the share of the
#: average that an update keeps. The average then covers about the last 100 steps.
STEPS_BETWEEN, YOUNG_STEPS, KEPT_SHARE = 10, 100, 0.9


class RunningAverage:
    """A copy of a module that has the running average of its weights; the module itself is not changed.

    The average begins with the weights that the module has when this is made. A step moves few rows of a
    table with sparse gradients, so its average is kept row by row: a row is brought up to date before it
    moves, and all are when the copy is asked for.
    """

    def __init__(self, module: nn.Module) -> None:
        self.steps = self.updates = 0
        self._copy = copy.deepcopy(module).requires_grad_(False)
        #: The log of what all updates together keep of the average that was there before them.
        self._log_kept = 0.0
        are_sparse = {
            id(each.weight) for each in module.modules() if isinstance(each, nn.Embedding) and each.sparse
        }
        pairs = list(zip(module.parameters(), self._copy.parameters(), strict=True))
        self._whole = [pair for pair in pairs if id(pair[0]) not in are_sparse]
        #: With each table, what `_log_kept` was when each of its rows (R,) was up to date.
        self._by_row = [
            (*pair, pair[0].new_zeros(len(pair[0]), dtype=torch.float64))
            for pair in pairs
            if id(pair[0]) in are_sparse
        ]

    @property
    def module(self) -> nn.Module:
        """The copy."""
        for weights, average, log_kept in self._by_row:
            kept = (self._log_kept - log_kept).exp().to(average.dtype)[:, None]  # (R, 1)
            average.lerp_(weights.detach(), 1 - kept)
            log_kept.fill_(self._log_kept)
        return self._copy

    @torch.no_grad()
    def before_step(self) -> None:
        """Bring the rows up to date that are about to move; call it before each optimiser step."""
        for weights, average, log_kept in self._by_row:
            if weights.grad is None:
                continue
            rows = weights.grad.coalesce().indices()[0]
            if weights.device.type == "cpu":
                tables = weights.numpy(), average.numpy(), log_kept.numpy()
                _catch_up(*tables, rows.numpy(), self._log_kept)
                continue
            kept = (self._log_kept - log_kept[rows]).exp().to(average.dtype)[:, None]
            average[rows] = weights[rows].lerp(average[rows], kept)
            log_kept[rows] = self._log_kept

    @torch.no_grad()
    def step(self) -> None:
        """Add the module's weights to the average; call it after each optimiser step."""
        self.steps += 1
        if self.steps > YOUNG_STEPS and self.steps % STEPS_BETWEEN:
            return
        self.updates += 1
        kept = min(KEPT_SHARE, self.updates / (self.updates + 9))  # while updates are few, it keeps less
        self._log_kept += math.log(kept)
        for weights, average in self._whole:
            average.lerp_(weights, 1 - kept)

    def state(self) -> dict[str, Any]:
        """Return the whole state, for `restore`."""
        values = [parameter.detach() for parameter in self.module.parameters()]
        return {"steps": self.steps, "updates": self.updates, "values": values}

    @torch.no_grad()
    def restore(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned."""
        self.steps, self.updates = state["steps"], state["updates"]
        for parameter, value in zip(self._copy.parameters(), state["values"], strict=True):
            parameter.copy_(value)
        for _, _, log_kept in self._by_row:
            log_kept.fill_(self._log_kept)


@compiled_with_fast_sums
def _catch_up(weights: Floats, average: Floats, log_kept: Doubles, rows: Ints, now: float) -> None:
    """Bring rows (M,) of an average (R, D) up to date, in one pass and not in six."""
    for row in rows:
        if log_kept[row] == now:
            continue
        kept = np.float32(np.exp(now - log_kept[row]))
        of_row, of_average = weights[row], average[row]
        for at in range(len(of_row)):
            of_average[at] = of_row[at] + kept * (of_average[at] - of_row[at])
        log_kept[row] = now
