"""What a trainer has published, from the store alone: a chain of versions, and the rows that each learned."""

import json
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from models.arrays import Flags
from models.artifact.artifact import Artifact, load
from models.artifact.local_store import PUBLICATIONS, LocalStore
from models.log.behaviour_log import BehaviourLog
from offline.training.learned_until import newer_rows


@dataclass(frozen=True, slots=True)
class Books:
    """The versions that went on from each other, the oldest first, and what the list of publications says."""

    chain: list[Artifact]
    published: list[str]

    @property
    def twice(self) -> int:
        """Return how many publications are of a version that was published before."""
        return sum(count - 1 for count in Counter(self.published).values())

    def beside(self, active: list[str]) -> int:
        """Return how many of the versions that were seen active are not in the chain: forks."""
        return len(set(active) - {each.version for each in self.chain})

    def learned(self) -> int:
        """Return how many rows the steps have learned, by their own account."""
        return sum(each.metrics["gate"]["rows"] for each in self.chain[1:])

    def to_learn(self, log: BehaviourLog) -> tuple[int, int]:
        """Return how many rows of the log lie between what the first and the last version have learned.

        Those that users' windows still held as a step read them, and those that they held no more: who does
        more than a window has room for, between two steps, leaves the rest to nobody.
        """
        held = fallen = 0
        for before, after in pairwise(self.chain):
            is_read = ~newer_rows(log, after.training, "")
            is_new = is_read & newer_rows(log, before.training, "")
            is_held = _are_last(log, is_read, after.settings.window.max_events)
            held += int((is_new & is_held).sum())
            fallen += int((is_new & ~is_held).sum())
        return held, fallen


def _are_last(log: BehaviourLog, among: Flags, most: int) -> Flags:
    """Return which rows (R,) are one of their user's last so many among some rows (R,)."""
    order = log.by_user()
    order = order[among[order]]
    users = log.user.codes[order]
    behind = np.searchsorted(users, users, "right") - 1 - np.arange(len(order))
    found = np.zeros(len(log), np.bool_)
    found[order[behind < most]] = True
    return found


def read_books(store: LocalStore) -> Books:
    """Return the books of a store, whose first publication is of a model that went on from none."""
    lines = (store.where / PUBLICATIONS).read_text().splitlines()
    published = [str(json.loads(line)["version"]) for line in lines if line]
    chain = [load(store.where)]
    while before := chain[0].training.get("continued_from"):
        chain.insert(0, load(store.directory(before)))
    return Books(chain, published)
