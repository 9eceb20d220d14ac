"""The long vectors of recent users, kept as long as what they were made from stays the same.

The boundary between the towers moves rarely (`histories.event_features`), so most changes of a user leave the
long tower's input as it was. A fingerprint of that input decides, not what is known of the change: a late
event, a forgotten user, a window read again after a rebalance need no thought here.
"""

import secrets
from collections.abc import Callable, Sequence
from itertools import repeat

import numpy as np

from models.arrays import Floats, Words
from models.inference import kernels
from models.towers.histories import Part, TowerSpans
from models.windows.histories import Histories


class LongVectorCache:
    """Vectors of one model, of at most `capacity` users; who was added first gives way first."""

    def __init__(self, capacity: int, dimension: int) -> None:
        self._vectors = np.zeros((capacity + 1, dimension), np.float32)
        self._prints = np.zeros(capacity + 1, np.uint64)
        self._owners: list[str | None] = [None] * capacity
        self._slots: dict[str, int] = {}
        self._next_slot = 0
        self._seed = secrets.randbits(63)

    def complete(
        self,
        user_ids: Sequence[str],
        histories: Histories,
        spans: TowerSpans,
        make: Callable[[Part], Floats],
    ) -> Floats:
        """Return the long vectors (B, D) of these users, all different; `make` makes what is not kept."""
        derived, part = spans.derived, spans.long
        columns = histories.item, histories.category, histories.behaviour, derived.gap, derived.session
        prints = kernels.fingerprints(*columns, *part, self._seed)  # (B,)
        nowhere = len(self._owners)
        slots = np.fromiter(map(self._slots.get, user_ids, repeat(nowhere)), np.int64, len(user_ids))
        missing = np.flatnonzero((slots == nowhere) | (self._prints[slots] != prints))
        vectors = self._vectors[slots]  # (B, D)
        if len(missing):
            to_make = part.take(missing)
            made = make(to_make)  # (M, D)
            vectors[missing] = made
            self._keep([user_ids[user] for user in missing.tolist()], prints[missing], made)
        return vectors

    def clear(self) -> None:
        """Forget all vectors, as those of another precision."""
        self._slots.clear()
        self._owners = [None] * len(self._owners)

    def _keep(self, user_ids: Sequence[str], prints: Words, vectors: Floats) -> None:
        user_ids = user_ids[: len(self._owners)]
        slots = np.array([self._slot(user_id) for user_id in user_ids], np.int64)
        # A user may have given way to a later one of the same batch: in both, the later one's stays.
        self._prints[slots] = prints[: len(slots)]
        self._vectors[slots] = vectors[: len(slots)]

    def _slot(self, user_id: str) -> int:
        """Return the user's slot, or that of the user who gives way."""
        slot = self._slots.get(user_id)
        if slot is None:
            slot = self._next_slot
            self._next_slot = (slot + 1) % len(self._owners)
            if (owner := self._owners[slot]) is not None:
                del self._slots[owner]
            self._owners[slot] = user_id
            self._slots[user_id] = slot
        return slot
