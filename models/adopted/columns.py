"""Histories -> the padded inputs of an adopted encoder, by name: what each input holds is said here."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from models.adopted.indices import Indices
from models.adopted.settings import EncoderSettings
from models.arrays import Flags, Ints
from models.sessions import starts_session
from models.windows.histories import Histories

#: One input of a batch, of the type that the encoder wants.
Input = npt.NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class EncoderColumns:
    """The events that an encoder reads of B users, users one after the other, each oldest first.

    columns: name -> (E,) int64. item, category, behaviour: the encoder's own indices; age_s: whole seconds
    before the newest of the user's events here; session: 0 for the session of that event, 1 for the one
    before, and so on. padding: name -> what stands where there is no event. counts (B,) events of each user.
    """

    columns: Mapping[str, Ints]
    padding: Mapping[str, int]
    counts: Ints

    def padded(
        self, users: Ints, width: int, side: str, types: Mapping[str, np.dtype[Any]]
    ) -> dict[str, Input]:
        """Return the inputs of these users (indices): (R, width) for each of `types`, `length` (R,).

        side: where the padding stands, left or right.
        """
        counts = self.counts[users]
        firsts = (np.cumsum(self.counts) - self.counts)[users]
        place = np.arange(width) - (width - counts[:, None] if side == "left" else 0)  # (R, T)
        is_real = (place >= 0) & (place < counts[:, None])  # (R, T)
        rows = np.where(is_real, firsts[:, None] + place, 0)  # (R, T)
        found: dict[str, Input] = {}
        for name, kind in types.items():
            values = counts if name == "length" else self._laid_out(name, is_real, rows)
            found[name] = values.astype(kind)
        return found

    def _laid_out(self, name: str, is_real: Flags, rows: Ints) -> Ints:
        if not len(self.columns[name]):
            return np.full(rows.shape, self.padding[name], np.int64)
        return np.where(is_real, self.columns[name][rows], self.padding[name])


def encoder_columns(histories: Histories, indices: Indices, settings: EncoderSettings) -> EncoderColumns:
    """Return what the encoder reads of B users: the newest events of known items and behaviours."""
    item, behaviour = indices.items[histories.item], indices.behaviours[histories.behaviour]
    user = np.repeat(np.arange(len(histories)), np.diff(histories.starts))
    read = np.flatnonzero((item >= 0) & (behaviour >= 0))
    after = np.cumsum(np.bincount(user[read], minlength=len(histories)))[user[read]] - np.arange(len(read))
    read = read[after <= settings.max_events]  # `after` counts the event itself
    counts = np.bincount(user[read], minlength=len(histories))
    ends = np.cumsum(counts)
    newest = np.repeat(ends - 1, counts)  # (E,) the place of each event's user's newest
    time_ms = histories.time_ms[read]
    number = np.cumsum(starts_session(time_ms, ends - counts, settings.gap_ms), dtype=np.int64)
    return EncoderColumns(
        {
            "item": item[read],
            "category": indices.categories[histories.category[read]],
            "behaviour": behaviour[read],
            "age_s": (time_ms[newest] - time_ms) // 1000,
            "session": number[newest] - number,
        },
        {
            "item": int(indices.items[0]),
            "category": int(indices.categories[0]),
            "behaviour": int(indices.behaviours[0]),
            "age_s": 0,
            "session": 0,
        },
        counts,
    )
