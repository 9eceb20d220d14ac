"""Which items users had soon after each other, and when: what edges between items are made of."""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from models.arrays import Ints
from models.ids.vocabulary_file import FIRST_KNOWN
from models.windows.histories import Histories


@dataclass(frozen=True, slots=True)
class Transitions:
    """P pairs of known items, in time order: a user had `later` (P,) soon after `earlier` (P,), at time_ms.

    Items are places in the vocabulary.
    """

    earlier: Ints
    later: Ints
    time_ms: Ints

    def counts(self, items: int, before_ms: int | None = None) -> "sparse.csr_matrix":
        """Return (I, I) how often two items were had soon after each other, in either order.

        before_ms: by later events before this time alone.
        """
        end = len(self.time_ms) if before_ms is None else int(np.searchsorted(self.time_ms, before_ms))
        rows = np.concatenate([self.earlier[:end], self.later[:end]])
        columns = np.concatenate([self.later[:end], self.earlier[:end]])
        return sparse.csr_matrix((np.ones(len(rows), np.float32), (rows, columns)), (items, items))


def transitions_of(histories: Histories, reach: int) -> Transitions:
    """Return the pairs of different known items that stand up to `reach` events apart with one user."""
    user = np.repeat(np.arange(len(histories)), np.diff(histories.starts))
    item = histories.item.astype(np.int64) - FIRST_KNOWN
    earlier, later, time_ms = [], [], []
    for apart in range(1, reach + 1):
        first, second = item[:-apart], item[apart:]
        is_pair = (user[:-apart] == user[apart:]) & (first >= 0) & (second >= 0) & (first != second)
        earlier.append(first[is_pair])
        later.append(second[is_pair])
        time_ms.append(histories.time_ms[apart:][is_pair])
    times = np.concatenate(time_ms)
    order = np.argsort(times, kind="stable")
    return Transitions(np.concatenate(earlier)[order], np.concatenate(later)[order], times[order])
