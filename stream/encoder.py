"""Changed users' windows -> rows for the store."""

from collections.abc import Sequence

import torch

from models.artifact import Artifact
from models.features import histories_of_windows
from models.kept import KeptVectors
from models.window import Window
from stream import metrics
from stream.layout import UNSEEN_USER
from stream.store import UserRow


class Encoder:
    """Encodes users with one artifact; `rows` runs off the event loop, in one thread at a time."""

    def __init__(self, artifact: Artifact, torch_threads: int = 0, kept_vectors: int = 1) -> None:
        if torch_threads:
            torch.set_num_threads(torch_threads)
        self.artifact = artifact
        self._kept = KeptVectors(kept_vectors, artifact.inference.dimension)

    def rows(self, users: Sequence[tuple[str, Window]], epoch: int) -> list[UserRow]:
        """Return one row per (user id, window), in order; epoch is that of the windows' source topic."""
        if not users:
            return []
        histories = histories_of_windows([window for _, window in users], self.artifact.vocabulary)
        made_before = self._kept.made
        user_ids = [user_id for user_id, _ in users]
        vectors = self.artifact.inference.encode_pass(histories, user_ids, self._kept)
        metrics.encoded_users_total.labels("short").inc(len(users))
        metrics.encoded_users_total.labels("long").inc(self._kept.made - made_before)
        return [
            UserRow(
                user_id=user_id,
                vec=vectors.user[place],
                long=vectors.long[place],
                short=vectors.short[place],
                model=self.artifact.version,
                epoch=epoch,
                seq=window.offset,
                ts=window.times_ms[-1] if window.times_ms else 0,
                n=len(window),
            )
            for place, (user_id, window) in enumerate(users)
        ]

    def unseen_row(self) -> UserRow:
        """Return the row of a user never seen, whose vector comes from an empty window."""
        (row,) = self.rows([(UNSEEN_USER, Window(offset=0))], epoch=0)
        return row
