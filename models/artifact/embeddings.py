"""Vectors and recommendations straight from an artifact, without Redis; needs no torch."""

from collections.abc import Collection, Sequence

import numpy as np

from models.arrays import Floats
from models.artifact.artifact import Artifact
from models.errors import DataError
from models.events import Event, event_hash
from models.ids.vocabulary_file import FIRST_KNOWN
from models.windows.histories import histories_of_windows
from models.windows.reference import IncomingEvent, fold
from models.windows.window import Window, window_to_bytes


class Embeddings:
    """What a model makes of users and items, whichever its kind.

    events: what a user did, in any order; a worker's window of the same events gives the same vector. A user
    whom the model does not know, and who did nothing, is a cold-start user.
    """

    def __init__(self, artifact: Artifact) -> None:
        self._artifact, self._items = artifact, artifact.item_vectors

    def get_user_embedding(self, user_id: str, events: Sequence[Event] = ()) -> Floats:
        """Return the vector (D,) of a user."""
        window, settings = Window(), self._artifact.settings.window
        for number, each in enumerate(events):
            identity = event_hash(str(each.event_id if each.event_id is not None else number))
            ids = str(each.item_id), each.category
            incoming = IncomingEvent(number, each.time, each.behavior_type, *ids, identity)
            fold(window, incoming, "", 0, settings)
        histories = histories_of_windows([window_to_bytes(window)], self._artifact.vocabulary)
        found: Floats = self._artifact.encode(histories, [user_id]).user[0]
        return found

    def get_item_embedding(self, item_id: str) -> Floats:
        """Return the vector (D,) of an item. Raises DataError where the model does not know it."""
        (index,) = self._artifact.vocabulary.item_indices([item_id])
        if index < FIRST_KNOWN:
            raise DataError(
                f"model {self._artifact.version} knows no item {item_id!r}: train it on a log, or on "
                "features, that have it"
            )
        found: Floats = self._items[index - FIRST_KNOWN]
        return found

    def recommend_items(
        self, user_id: str, k: int = 10, events: Sequence[Event] = (), exclude: Collection[str] = ()
    ) -> list[tuple[str, float]]:
        """Return the k items with the highest scores, the best first, and their scores."""
        scores = self._items @ self.get_user_embedding(user_id, events)
        left_out = self._artifact.vocabulary.item_indices(list(exclude)) - FIRST_KNOWN
        scores[left_out[left_out >= 0]] = -np.inf
        best = np.argsort(-scores, kind="stable")[: max(k, 0)]
        return [
            (self._artifact.item_ids[each], float(scores[each])) for each in best if scores[each] > -np.inf
        ]
