"""Mini-batch aware regularisation: only the vectors that a step reads are pulled in, rare ones more.

Source: DIN (arXiv 1706.06978) section 5.1, eq. 6: lambda / 2 * sum over features of the batch of |w|^2 / n,
where n is in how many samples the feature occurs.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from models.arrays import Floats, Ints
from models.rankers.layers import Vectors
from offline.rankers.samples import Asked, Samples


class Regularisation:
    """What is added to the loss of a batch."""

    def __init__(self, samples: Samples, max_events: int, vectors: Vectors, strength: float) -> None:
        self._strength = strength
        self._tables = (vectors.item, vectors.category)
        device = vectors.item.weight.device
        columns = samples.histories.item, samples.histories.category
        self._counts = [
            torch.from_numpy(sample_counts(samples, column, table.num_embeddings, max_events)).to(device)
            for column, table in zip(columns, self._tables, strict=True)
        ]

    def loss(self, parts: Sequence[Asked]) -> Tensor:
        """Return lambda / 2 * sum of |w|^2 / n over the items and categories of a step's batches."""
        total = torch.zeros((), device=self._counts[0].device)
        items = [each for asked in parts for each in (asked.events.item, asked.item)]
        categories = [each for asked in parts for each in (asked.events.category, asked.category)]
        for table, counts, read in zip(self._tables, self._counts, (items, categories), strict=True):
            rows = torch.unique(torch.cat([each.flatten() for each in read]))
            total = total + (table(rows).square().sum(dim=1) / counts[rows]).sum()
        return self._strength / 2 * total


def sample_counts(samples: Samples, values: Ints, count: int, max_events: int) -> Floats:
    """Return in how many samples each value (count,) occurs, in the past or as the target; at least 1.

    values (E,) are those of the events. An event counts for the targets after it, up to the next event of the
    same value, which counts from there on.
    """
    histories, events = samples.histories, len(values)
    is_target = np.zeros(events + 1, np.int64)
    is_target[samples.target] = 1
    before = np.concatenate(([0], np.cumsum(is_target)))  # targets before each event
    user = np.repeat(np.arange(len(histories)), np.diff(histories.starts))
    order = np.lexsort((np.arange(events), values, user))
    is_same = (user[order][1:] == user[order][:-1]) & (values[order][1:] == values[order][:-1])
    following = np.full(events, events, np.int64)
    following[order[:-1][is_same]] = order[1:][is_same]
    end = np.minimum.reduce([np.arange(events) + max_events, following, histories.starts[1:][user] - 1])
    in_pasts = before[end + 1] - before[np.arange(events) + 1]  # targets from the next event to `end`
    previous = np.full(events, -1, np.int64)
    previous[order[1:][is_same]] = order[:-1][is_same]
    is_new = (previous < 0) | (np.arange(events) - previous > max_events)
    found = np.bincount(values, weights=in_pasts + is_target[:events] * is_new, minlength=count)
    return np.maximum(found, 1).astype(np.float32)
