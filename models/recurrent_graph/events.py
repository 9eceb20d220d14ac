"""Histories -> what a recurrent encoder beside a graph reads of them, the same offline and online."""

from dataclasses import dataclass

import numpy as np

from models.ages import age_buckets
from models.arrays import Ints
from models.ids.vocabulary_file import FIRST_KNOWN
from models.windows.histories import Histories


@dataclass(frozen=True, slots=True)
class ReadEvents:
    """The E events that are read of B users, one user after the other, each oldest first.

    node (E,): the event's node in the graph; behaviour (E,); pause (E,): bucket of the time since the event
    before, 0 for the first that is read; counts (B,).
    """

    node: Ints
    behaviour: Ints
    pause: Ints
    counts: Ints

    @property
    def firsts(self) -> Ints:
        """The place of each user's first event (B,)."""
        return np.cumsum(self.counts) - self.counts


def read_spans(histories: Histories, firsts: Ints, ends: Ints, items: int) -> ReadEvents:
    """Return what is read of B stretches of events, firsts to ends (B,); items: how many are known."""
    counts = ends - firsts
    begins = np.cumsum(counts) - counts
    row = np.arange(counts.sum()) + np.repeat(firsts - begins, counts)
    time_ms = histories.time_ms[row]
    pause = age_buckets(np.diff(time_ms, prepend=0))
    pause[begins[counts > 0]] = 0
    node = nodes_of(histories.item[row], histories.category[row], items)
    return ReadEvents(node, histories.behaviour[row].astype(np.int64), pause, counts)


def newest_events(histories: Histories, max_events: int, items: int) -> ReadEvents:
    """Return what is read of B users: their newest events."""
    firsts = np.maximum(histories.starts[1:] - max_events, histories.starts[:-1])
    return read_spans(histories, firsts, histories.starts[1:], items)


def nodes_of(item: Ints, category: Ints, items: int) -> Ints:
    """Return the nodes of items (...): the known ones, and behind these one unknown item of each category.

    items: how many are known; item and category are vocabulary indices.
    """
    item, category = item.astype(np.int64), category.astype(np.int64)
    return np.where(item >= FIRST_KNOWN, item - FIRST_KNOWN, items + category)
