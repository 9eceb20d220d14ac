"""The contract of a model: a user encoder (windows' columns in, vectors out) and an item side in one space.

Whatever meets it is served, rolled out, proved, evaluated and ranked with alike. The dual towers meet it
(models/inference/tower_model.py), and so does anything exported to ONNX (models/adopted/onnx_model.py).

The item side is a vector (D,) for each item of a vocabulary, in its order: the score of an item for a user
is the dot product of the item's vector and the user's. What a model adds to a score for every user alike,
such as an item's bias, is a coordinate that is 1 in every user vector.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from models.arrays import Floats
from models.windows.histories import Histories


@dataclass(frozen=True, slots=True)
class Vectors:
    """user (B, D) float32: each user's vector; long, short (B, D) those of their past and their present.

    A model that makes no long and short has (B, 0) there. Where it does, long stands for user in Redis once
    the short-lived part has expired (TWINTIDE_SHORT_TTL_S).
    """

    user: Floats
    long: Floats
    short: Floats


class UserEncoder(Protocol):
    """Makes users' vectors of what their windows hold, on one device, in one thread at a time."""

    @property
    def dimension(self) -> int:
        """D, the length of every vector."""

    @property
    def reads_live(self) -> bool:
        """Whether `Histories.live` enters the vectors; if not, all items enter as they were trained."""

    @property
    def made(self) -> Mapping[str, int]:
        """Part of the model, such as a tower -> of how many users it has been computed so far."""

    def encode(self, histories: Histories, user_ids: Sequence[str] = ()) -> Vectors:
        """Return the vectors of B users; one without events gets the vector of a cold-start user.

        A user's vector does not depend on who else is encoded with them (up to rounding, 1e-5). user_ids (B,)
        names users, all different, who will come again: what of theirs stays as it was may be kept for them,
        and what is known of them beside their windows is read; without, they are strangers.
        Raises RuntimeError where the device fails.
        """

    def forget(self) -> None:
        """Drop all that is kept of users."""


class Model(Protocol):
    """A trained model, whichever its kind, as an artifact holds it."""

    def on_cpu(self, kept_vectors: int = 0) -> UserEncoder:
        """Return its encoder on the CPU, which keeps parts of so many users' vectors where that helps."""

    def on_gpu(self, bfloat16: bool, kept_vectors: int) -> UserEncoder | None:
        """Return its encoder on a GPU, None where there is none for it; computing in bfloat16 if it can."""

    def item_vectors(self) -> Floats:
        """Return (I, D), the vectors of the known items in the order of the vocabulary."""

    def files(self) -> Mapping[str, bytes]:
        """Return what it is loaded from again, by the names of files."""

    def description(self) -> Mapping[str, object]:
        """Return what config.json says of its kind: `encoder`, the kind's name, and how to load it."""


@dataclass(frozen=True, slots=True)
class EventWeights:
    """What each of one user's E events weighs in dual towers, (E,); 0 where a tower does not read the event.

    `direct` is by what each item is multiplied in the direct path's sum. `short` and `long` are a tower's
    attention at the newest event it reads, in its last layer, the mean of its heads: they sum to 1. None
    where training left the tower out, so that nothing of it enters the vector.
    """

    #: How much of the user's vector is the short tower's, direct path included; the rest is the long tower's.
    short_share: float
    direct: Floats
    short: Floats | None
    long: Floats | None
