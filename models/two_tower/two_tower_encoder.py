"""Histories and what is known of their users -> vectors, by the user side of two towers."""

from collections.abc import Sequence

import numpy as np

from models.arrays import Floats
from models.encoder import Vectors
from models.ids.id_table import IdTable
from models.ids.texts import texts_of
from models.two_tower.settings import TwoTowerSettings
from models.two_tower.weights import UserTower
from models.windows.histories import Histories

#: Users that are encoded at a time.
AT_ONCE = 1_024


class TwoTowerEncoder:
    """Encodes with the user tower; a `models.encoder.UserEncoder`."""

    def __init__(self, tower: UserTower, settings: TwoTowerSettings, users: IdTable) -> None:
        """users: the place of each known user among the rows of `tower.known` after the stranger's."""
        self.dimension = settings.dimension
        self.made = {"user": 0}
        self.reads_live = False
        self._tower = tower
        self._settings = settings
        self._users = users

    def encode(self, histories: Histories, user_ids: Sequence[str] = ()) -> Vectors:
        """Return the vectors of B users; see `UserEncoder.encode`. Nothing is kept of any user."""
        user = np.empty((len(histories), self.dimension), np.float32)
        for begin in range(0, len(histories), AT_ONCE):
            some = slice(begin, min(begin + AT_ONCE, len(histories)))
            read = histories.part(some)
            user[some] = self._tower(np.hstack([self._known(len(read), user_ids[some]), self._events(read)]))
        self.made["user"] += len(histories)
        nothing = np.zeros((len(histories), 0), np.float32)
        return Vectors(user, nothing, nothing)

    def forget(self) -> None:
        """Do nothing: what is known of users is the artifact's."""

    def _known(self, users: int, user_ids: Sequence[str]) -> Floats:
        if not user_ids:
            return np.repeat(self._tower.known[:1], users, axis=0)
        return self._tower.known[1 + self._users.find(texts_of(user_ids))]

    def _events(self, histories: Histories) -> Floats:
        """Return (B, 2 E): the mean of the newest events' vectors, and the newest one's; 0 without any."""
        firsts = np.maximum(histories.starts[1:] - self._settings.history_events, histories.starts[:-1])
        counts = histories.starts[1:] - firsts
        ends = np.cumsum(counts)
        rows = np.arange(ends[-1]) + np.repeat(firsts - (ends - counts), counts)
        vectors = self._tower.item[histories.item[rows]] + self._tower.category[histories.category[rows]]
        found = np.zeros((2, len(histories), self._settings.event_dimension), np.float32)
        has_events = counts > 0
        if len(rows):
            sums = np.add.reduceat(vectors, (ends - counts)[has_events], axis=0)
            found[0, has_events] = sums / counts[has_events, None]
            found[1, has_events] = vectors[ends[has_events] - 1]
        return np.hstack([*found])
