"""Histories -> vectors by an adopted encoder: few large batches of histories of about equal length."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from models.adopted.columns import EncoderColumns, Input, encoder_columns
from models.adopted.indices import Indices
from models.adopted.session import Session
from models.adopted.settings import EncoderSettings
from models.arrays import Floats, Ints
from models.encoder import Vectors
from models.length_buckets import NARROWEST, buckets
from models.windows.histories import Histories

#: Places of a padded batch at most: what the graph makes on its way fits a CPU's cache, or a small GPU.
MOST_PLACES = {"cpu": 1 << 13, "cuda": 1 << 17}
#: The outputs that are taken, where there are.
OUTPUTS = ("user", "long", "short")


class OnnxEncoder:
    """Encodes with an ONNX graph; a `models.encoder.UserEncoder`."""

    def __init__(
        self,
        session: Callable[[], Session],
        settings: EncoderSettings,
        indices: Indices,
        dimension: int,
        cold_start: Floats | None = None,
    ) -> None:
        """session: gives what to run now; cold_start (D,): what a user without events gets, None to ask."""
        self.dimension = dimension
        self.made = {"user": 0}
        self.reads_live = False
        self._session = session
        self._settings = settings
        self._indices = indices
        self._cold_start = cold_start

    def encode(self, histories: Histories, user_ids: Sequence[str] = ()) -> Vectors:
        """Return the vectors of B users; see `UserEncoder.encode`. Nothing is kept of any user."""
        columns, session = encoder_columns(histories, self._indices, self._settings), self._session()
        names = [name for name in OUTPUTS if name in session.outputs]
        found = {name: np.zeros((len(histories), self.dimension), np.float32) for name in names}
        nothing = np.zeros((len(histories), 0), np.float32)
        for users, width in self._batches(columns.counts, MOST_PLACES[session.device]):
            made = session.run(self._feed(session, columns, users, width))
            for name in names:
                found[name][users] = self._checked(made[name], len(users))
        self.made["user"] += len(histories)
        if self._cold_start is not None:
            for vectors in found.values():
                vectors[columns.counts == 0] = self._cold_start
        return Vectors(*(found.get(name, nothing) for name in OUTPUTS))

    def forget(self) -> None:
        """Do nothing: nothing is kept."""

    def _checked(self, made: Floats, users: int) -> Floats:
        if made.shape != (users, self.dimension):
            raise ValueError(f"{made.shape} where {(users, self.dimension)} is wanted")
        return made

    def _feed(self, session: Session, columns: EncoderColumns, users: Ints, width: int) -> dict[str, Input]:
        types = {name: port.type for name, port in session.inputs.items()}
        return columns.padded(users, width, self._settings.padding, types)

    def _batches(self, counts: Ints, most_places: int) -> Iterator[tuple[Ints, int]]:
        """Yield users (indices) to run together, and how many places their rows have."""
        settings = self._settings
        for users in [np.arange(len(counts))] if settings.width else buckets(counts):
            longest = max(NARROWEST, int(counts[users].max(initial=0)))
            width = settings.width or min(longest, settings.max_events)
            at_once = max(1, most_places // width)
            for begin in range(0, len(users), at_once):
                yield users[begin : begin + at_once], width
