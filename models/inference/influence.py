"""What each event of a user does to the vector: how far it moves where the event is left out."""

from typing import Protocol

import numpy as np

from models.arrays import Floats
from models.encoder import Vectors
from models.windows.histories import Histories


class Encodes(Protocol):
    """Makes vectors of histories, whatever the model is."""

    def encode(self, histories: Histories) -> Vectors: ...


def influence(model: Encodes, history: Histories) -> Floats:
    """Return, of one user's E events, how far the vector moves without each (E,), as a share of its length.

    It says what really entered, of any model: a weight may stand before an item that the model does not know.
    """
    found = model.encode(_each_left_out(history)).user.astype(np.float64)  # (1 + E, D)
    length = max(float(np.linalg.norm(found[0])), np.finfo(np.float32).tiny)
    return np.asarray(np.linalg.norm(found[1:] - found[0], axis=1) / length, np.float32)


def _each_left_out(history: Histories) -> Histories:
    """Return 1 + E histories of E events of one user: all of them, and all but each."""
    count = len(history.item)
    others = np.arange(count - 1) + (np.arange(count - 1) >= np.arange(count)[:, None])  # (E, E - 1)
    rows = np.concatenate([np.arange(count), others.ravel()])
    starts = np.concatenate([[0], count + np.arange(count + 1) * max(count - 1, 0)])
    return history.select(rows, starts)
