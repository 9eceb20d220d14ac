"""Dual towers that read what items have become, slowly: to look into them, and where no loop is compiled."""

import copy
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from models.ids.vocabulary_file import UNKNOWN
from models.towers.dual_towers import DualTowers, ItemEmbedding
from models.windows.histories import Histories


class LiveItemEmbedding(nn.Module):
    """Items as they enter the towers: an index of I + r is row r of `live` (R, D), others are as trained."""

    def __init__(self, trained: ItemEmbedding, live: Tensor) -> None:
        super().__init__()
        self.trained, self.live = trained, live

    def forward(self, item: Tensor, category: Tensor) -> Tensor:
        """Return what enters the towers, (..., D), of item and category indices (...)."""
        row = item - self.trained.item.num_embeddings  # (...)
        is_live = (row >= 0)[..., None]  # (..., 1)
        trained: Tensor = self.trained(item.masked_fill(row >= 0, UNKNOWN), category)  # (..., D)
        return torch.where(is_live, self.live[row.clamp(min=0)], trained)  # (..., D)


def with_live_items(towers: DualTowers, histories: Histories) -> tuple[DualTowers, Histories]:
    """Return towers and histories of which the short vectors are those of the histories' live items.

    They share all weights; histories without live items come back as they are.
    """
    live = histories.live
    if live is None or not (live.row >= 0).any():
        return towers, histories
    used, row = np.unique(live.row[live.row >= 0], return_inverse=True)
    short = live.row.copy()
    short[live.row >= 0] = row
    items = LiveItemEmbedding(towers.items, torch.from_numpy(live.inputs.vectors(used)))
    other = copy.copy(towers)
    other._modules = {**towers._modules, "items": items}
    item = replace(live, row=short).item(histories.item, towers.items.item.num_embeddings)
    return other, replace(histories, item=item, live=None)
