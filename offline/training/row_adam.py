"""Adam for tables of which a step touches few rows: as torch's SparseAdam, in one pass of machine code."""

from collections.abc import Iterable
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor

from models.arrays import Floats, Ints
from models.compiled import compiled_with_fast_sums

#: How much the running means of the gradient and of its square keep at each step, and what no division is
#: below: those of torch.
KEPT, KEPT_SQUARE, EPSILON = 0.9, 0.999, 1e-8


class RowAdam(torch.optim.Optimizer):
    """Moves the rows that have a gradient, and their running means, on a CPU.

    Source of the formula: torch.optim.SparseAdam, whose fifteen passes over the same rows take ten times as
    long.
    """

    def __init__(self, tables: Iterable[Tensor], lr: float) -> None:
        """The tables are float32, and their gradients sparse."""
        super().__init__(tables, {"lr": lr})

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Any) -> float: ...
    @torch.no_grad()
    def step(self, closure: Any = None) -> float | None:
        """Move the rows of all tables by their gradients; there is no closure."""
        for group in self.param_groups:
            for table in group["params"]:
                if table.grad is not None:
                    self._move(table, group["lr"])
        return None

    def _move(self, table: Tensor, lr: float) -> None:
        state = self.state[table]
        if not state:
            state |= {"step": 0, "exp_avg": torch.zeros_like(table), "exp_avg_sq": torch.zeros_like(table)}
        state["step"] += 1
        size = lr * (1 - KEPT_SQUARE ** state["step"]) ** 0.5 / (1 - KEPT ** state["step"])
        gradient = table.grad.coalesce()  # type: ignore[union-attr]
        moved = table.detach().numpy(), state["exp_avg"].numpy(), state["exp_avg_sq"].numpy()
        _move_rows(*moved, gradient.indices()[0].numpy(), gradient.values().numpy(), size)


@compiled_with_fast_sums
def _move_rows(
    table: Floats, mean: Floats, square: Floats, rows: Ints, gradient: Floats, size: float
) -> None:
    """Move the rows (M,) of a table (R, D), and their means (R, D), by a gradient (M, D)."""
    for place, row in enumerate(rows):
        slope, weight, first, second = gradient[place], table[row], mean[row], square[row]
        for at in range(len(slope)):
            first[at] += (slope[at] - first[at]) * np.float32(1 - KEPT)
            second[at] += (slope[at] * slope[at] - second[at]) * np.float32(1 - KEPT_SQUARE)
            weight[at] -= np.float32(size) * first[at] / (np.sqrt(second[at]) + np.float32(EPSILON))
