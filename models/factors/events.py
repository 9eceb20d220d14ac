"""Histories -> what a factorisation observes of them, the same offline and online."""

from dataclasses import dataclass

import numpy as np

from models.arrays import Flags, Ints
from models.factors.ridge import Observed
from models.factors.settings import FactorSettings
from models.ids.vocabulary_file import FIRST_KNOWN
from models.windows.histories import Histories

HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Columns:
    """Which column an event observes: its item's, or where that is unknown its category's, behind the items.

    items: how many are known; has_category (C,): whether a category has known items, by which it is known.
    """

    items: int
    has_category: Flags

    @classmethod
    def of(cls, categories: Ints) -> "Columns":
        """Return the columns of items of these category indices (I,)."""
        counts = np.bincount(np.maximum(categories - FIRST_KNOWN + 1, 0), minlength=1)
        return cls(len(categories), counts[1:] > 0)

    def find(self, histories: Histories) -> Ints:
        """Return the column (E,) of each event, -1 where neither item nor category are known."""
        item, category = histories.item - FIRST_KNOWN, histories.category - FIRST_KNOWN
        named = np.clip(category, -1, len(self.has_category))  # a category may be newer than any known item
        is_known = np.concatenate((self.has_category, [False, False]))[named]
        found: Ints = np.where(item >= 0, item, np.where(is_known, self.items + category, -1))
        return found.astype(np.int64)


def observed_of(histories: Histories, columns: Columns, settings: FactorSettings) -> Observed:
    """Return what B users have observed: their newest events, aged from the newest on."""
    counts = np.diff(histories.starts)
    column = columns.find(histories)
    from_end = np.repeat(histories.starts[1:], counts) - np.arange(len(column))  # 1 for the newest
    is_read = (column >= 0) & (from_end <= settings.max_events)
    age_ms = np.repeat(histories.newest_ms(), counts) - histories.time_ms
    weight = np.ones(len(column))
    if settings.half_life_h:
        weight = 0.5 ** (age_ms / (settings.half_life_h * HOUR_MS))
    user = np.repeat(np.arange(len(histories)), counts)[is_read]
    starts = np.concatenate(([0], np.cumsum(np.bincount(user, minlength=len(histories)))))
    value = np.array([0.0, *settings.behaviour_values])[histories.behaviour]
    return Observed(starts, column[is_read], value[is_read], weight[is_read])
