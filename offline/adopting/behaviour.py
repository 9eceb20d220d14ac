"""Whether an encoder does what the contract says: tried on made-up histories, each fault said in one line."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from models.adopted.indices import Indices
from models.adopted.onnx_encoder import OnnxEncoder
from models.adopted.session import Session
from models.adopted.settings import EncoderSettings
from models.arrays import Floats, Ints
from models.encoder import Vectors
from models.errors import ArtifactError
from models.ids.vocabulary_file import FIRST_KNOWN
from models.windows.histories import Histories

#: Largest difference between vectors that should be the same, in parts of the largest coordinate if that is
#: over 1.
TOLERANCE = 1e-4
#: Pauses between made-up events (ms), over and over: the same time, within a session, between sessions, days.
_PAUSES_MS = (0, 60_000, 5_000, 7_200_000, 3 * 86_400_000)


class Trial:
    """An encoder on trial; `file` is for the messages."""

    def __init__(
        self, file: Path, session: Session, settings: EncoderSettings, indices: Indices, dimension: int
    ) -> None:
        self._file = file
        self._session = session
        self._settings = settings
        self._indices = indices
        self._dimension = dimension

    def check(self) -> None:
        """Raise ArtifactError, which names the fault, where the encoder does not hold to the contract."""
        settings = self._settings
        all_places = replace(settings, width=settings.width or settings.max_events)
        histories = made_up(self._indices, settings.max_events)
        together = self._encoded(histories, all_places)
        self._check_finite(histories, together)
        each = [histories.take(np.array([user])) for user in range(len(histories))]
        self._compare(
            together.user,
            np.concatenate([self._encoded(one, all_places).user for one in each]),
            "a user's vector depends on who else is encoded, or on chance ({}): export it in evaluation mode "
            "(model.eval())",
        )
        self._compare(
            together.user,
            np.concatenate([self._encoded(one, settings).user for one in each]),  # as short as can be
            "a user's vector depends on how much padding there is ({}): mask it, see that --padding is the "
            "side on which it was trained, or give its rows their width with --width",
        )
        self._check_newest(histories, together)

    def _check_newest(self, histories: Histories, together: Vectors) -> None:
        """Give everyone another newest item."""
        counts = np.diff(histories.starts)
        newest = histories.starts[1:][counts > 0] - 1
        items = histories.item.copy()
        items[newest] = _known_items(self._indices, np.arange(len(newest)) + 1)
        width = self._settings.width or self._settings.max_events
        other = self._encoded(replace(histories, item=items), replace(self._settings, width=width))
        if np.abs(other.user - together.user).max() == 0:
            raise ArtifactError(
                f"{self._file}: no user's newest item changes their vector: see that --padding is the side "
                "on which it was trained"
            )

    def _check_finite(self, histories: Histories, found: Vectors) -> None:
        counts = np.diff(histories.starts)
        for name, vectors in (("user", found.user), ("long", found.long), ("short", found.short)):
            wrong = np.flatnonzero(~np.isfinite(vectors).all(axis=1)).tolist()
            if wrong and counts[wrong].max() == 0:
                raise ArtifactError(
                    f"{self._file}: `{name}` is NaN or inf for a user without events: give them the mean "
                    "of all items with --cold-start mean"
                )
            if wrong:
                raise ArtifactError(
                    f"{self._file}: `{name}` is NaN or inf for a history of {counts[wrong].max()} events"
                )

    def _compare(self, found: Floats, other: Floats, fault: str) -> None:
        difference = float(np.abs(found - other).max())
        if not difference <= TOLERANCE * max(1.0, float(np.abs(found).max())):
            raise ArtifactError(f"{self._file}: " + fault.format(f"by {difference:.1e}"))

    def _encoded(self, histories: Histories, settings: EncoderSettings) -> Vectors:
        """Return the vectors. Raises ArtifactError where the graph fails, or gives another shape."""
        encoder = OnnxEncoder(lambda: self._session, settings, self._indices, self._dimension)
        longest = min(int(np.diff(histories.starts).max()), settings.max_events)
        try:
            found = encoder.encode(histories)
        except RuntimeError as error:
            raise ArtifactError(
                f"{self._file} fails for histories of up to {longest} events ({error}): where it reads "
                "fewer, give --max-events; indices must be those that it was trained with"
            ) from error
        except ValueError as error:  # vectors of another shape than (users, dimension)
            raise ArtifactError(
                f"{self._file} gives vectors of another shape than (users, {self._dimension}), which is what "
                f"the items have ({error})"
            ) from error
        if settings.cold_start == "mean":
            for vectors in (found.user, found.long, found.short):
                vectors[np.diff(histories.starts) == 0] = 0
        return found


def made_up(indices: Indices, max_events: int) -> Histories:
    """Return histories of no event, a few, all that an encoder reads, and more.

    The items of the smallest and the largest index are among them, all categories and behaviours that fit,
    times that are the same, and several sessions.
    """
    lengths = np.array([0, 1, 2, 3, 9, 20, max_events - 1, max_events, max_events + 20])
    total = int(lengths.sum())
    event = np.arange(total)
    pauses_ms = np.array(_PAUSES_MS)[event % len(_PAUSES_MS)]
    behaviours = np.flatnonzero(indices.behaviours[1:] >= 0) + 1
    return Histories(
        item=_known_items(indices, event),
        category=event % len(indices.categories[1:]) + 1,
        behaviour=behaviours[event % len(behaviours)].astype(np.uint8),
        time_ms=1_700_000_000_000 + np.cumsum(pauses_ms),
        starts=np.concatenate(([0], np.cumsum(lengths))),
    )


def _known_items(indices: Indices, numbers: Ints) -> Ints:
    """Return known items (our indices), those of the encoder's largest and smallest index first."""
    known = indices.items[FIRST_KNOWN:]
    found = FIRST_KNOWN + numbers * 7_919 % len(known)
    for number, item in ((0, int(known.argmax())), (1, int(known.argmin()))):
        found[numbers == number] = FIRST_KNOWN + item
    return found
