"""Rows move as torch's SparseAdam moves them."""

import torch
from torch.nn.functional import embedding

from offline.training.row_adam import RowAdam

ROWS, DIMENSION, STEPS = 20, 5, 30


def test_tables_move_as_by_sparse_adam_saved_and_restored_in_between() -> None:
    torch.manual_seed(0)
    start = torch.randn(ROWS, DIMENSION)
    tables = [torch.nn.Parameter(start.clone()) for _ in range(2)]
    ours: torch.optim.Optimizer = RowAdam(tables[:1], lr=0.01)
    theirs = torch.optim.SparseAdam(tables[1:], lr=0.01)
    for step in range(STEPS):
        rows, values = torch.randint(ROWS, (6,)), torch.randn(6, DIMENSION)  # some rows twice
        for table, optimiser in zip(tables, (ours, theirs), strict=True):
            optimiser.param_groups[0]["lr"] = 0.01 / (1 + step)
            table.grad = None
            if step % 5:
                (embedding(rows, table, sparse=True) * values).sum().backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        if step == STEPS // 2:
            state = ours.state_dict()
            ours = RowAdam(tables[:1], lr=1.0)
            ours.load_state_dict(state)
    torch.testing.assert_close(tables[0], tables[1])
    assert (tables[0] - start).abs().max() > 0.01
