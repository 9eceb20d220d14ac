"""How popular items were at any time of a log: what scores begin with, so that the towers learn the rest.

A model that must learn popularity learns that of the past. Here each target is scored beside the popularity
of its own time, and what is exported begins with that of the end of the log.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from models.arrays import Doubles, Flags, Floats, Ints
from models.blocks import blocks_of
from models.ids.vocabulary_file import FIRST_KNOWN
from models.log.times import HOUR_MS

#: Periods of a log that have a popularity each, at most, and shares that are held at most.
MAX_PERIODS, MAX_SHARES = 512, 1 << 24
#: Share of all events that is thought to be spread over all items alike.
SPREAD_SHARE = 0.1
#: Into how many periods a half-life is divided, where the log is not too long for that.
PERIODS_PER_HALF_LIFE = 2
#: Rows that are beyond the time of nearly all others: a clock that is ahead does not make all else old.
AHEAD_SHARE = 0.001


@dataclass(frozen=True, slots=True)
class Popularity:
    """The log of each item's share of the events, smoothed and decayed, when each of P periods begins.

    begins_ms (P,) ascending; log_share (I, P + 1), the last column that of the end: what is asked
    of an item lies side by side.
    """

    begins_ms: Tensor
    log_share: Tensor

    @property
    def at_end(self) -> Tensor:
        """The log of each item's share (I,) when the log ends."""
        return self.log_share[:, -1]

    def period_of(self, time_ms: Tensor) -> Tensor:
        """Return the period (M,) of each time (M,), the first for what is before it."""
        return (torch.searchsorted(self.begins_ms, time_ms, right=True) - 1).clamp(min=0)

    def of(self, period: Tensor, items: Tensor) -> Tensor:
        """Return the log shares (M, J) of items (M, J) in periods (M,); of what is no known item anything."""
        return self.log_share[(items - FIRST_KNOWN).clamp(min=0), period[:, None]]

    def of_all(self, items: Tensor) -> Tensor:
        """Return the log shares (P + 1, N) of known items (N,) in all periods, and at the end."""
        return functional.embedding(items - FIRST_KNOWN, self.log_share).T.contiguous()

    def to(self, device: torch.device) -> "Popularity":
        """Return it on a device."""
        return replace(self, begins_ms=self.begins_ms.to(device), log_share=self.log_share.to(device))


def present_ms(time_ms: Ints, rows: Flags) -> int:
    """Return when these rows (R,) of a log of times (R,) end, but for a few rows that may be ahead."""
    count = int(np.count_nonzero(rows))
    newest = count - int((count - 1) * (1 - AHEAD_SHARE))
    found = np.zeros(0, np.int64)  # the newest so far
    for some in blocks_of(len(time_ms)):
        found = np.concatenate([found, time_ms[some][rows[some]]])
        if len(found) > newest:
            found = np.partition(found, len(found) - newest)[-newest:]
    return int(found.min())


def age_weights(time_ms: Ints, now_ms: int, half_life_h: float) -> Floats:
    """Return the weight (R,) of events by their age at a time, 1 for the newest."""
    age_h = np.maximum(now_ms - time_ms, 0) / HOUR_MS
    return np.exp2(-age_h / half_life_h).astype(np.float32)


def popularity_of(item: Ints, time_ms: Ints, item_count: int, half_life_h: float) -> Popularity:
    """Return the popularity of `item_count` known items, of events (E,) of items (indices) at times.

    An infinite half-life has one period, whose popularity is that of the whole log.
    """
    known = item >= FIRST_KNOWN
    end_ms = present_ms(time_ms, known)
    first_ms = int(time_ms.min(where=known, initial=end_ms))
    begins_ms = _periods(first_ms, end_ms, item_count, half_life_h)
    if np.isinf(half_life_h):
        log_share = np.log(smoothed_share(_counts(item, item_count))).astype(np.float32)
        return Popularity(torch.from_numpy(begins_ms), torch.from_numpy(np.stack([log_share] * 2, axis=1)))
    begun = _begun(item, time_ms, begins_ms)
    counts, now_ms = np.zeros(item_count), int(begins_ms[0])
    shares = []
    for number, until_ms in enumerate((*begins_ms.tolist(), end_ms + 1)):
        rows = np.flatnonzero(begun == number)
        rows = rows[np.argsort(time_ms[rows], kind="stable")]
        counts *= np.exp2((now_ms - until_ms) / HOUR_MS / half_life_h)
        ages_h = (until_ms - np.minimum(time_ms[rows], end_ms)) / HOUR_MS
        counts += np.bincount(item[rows] - FIRST_KNOWN, np.exp2(-ages_h / half_life_h), item_count)
        shares.append(np.log(smoothed_share(counts)).astype(np.float32))
        now_ms = until_ms
    return Popularity(torch.from_numpy(begins_ms), torch.from_numpy(np.stack(shares, axis=1)))


def _counts(item: Ints, item_count: int) -> Doubles:
    """Return how many of the events (E,) are of each known item (I,)."""
    counts = np.zeros(FIRST_KNOWN + item_count)
    for some in blocks_of(len(item)):
        np.add.at(counts, item[some], 1.0)
    return counts[FIRST_KNOWN:]


def _begun(item: Ints, time_ms: Ints, begins_ms: Ints) -> npt.NDArray[np.int16]:
    """Return how many of the periods have begun at each event (E,); -1 for one of no known item."""
    found = np.full(len(item), -1, np.int16)
    for some in blocks_of(len(item)):
        begun = np.searchsorted(begins_ms, time_ms[some], side="right")
        found[some] = np.where(item[some] >= FIRST_KNOWN, begun, -1)
    return found


def _periods(begin_ms: int, end_ms: int, item_count: int, half_life_h: float) -> Ints:
    """Return when periods begin (P,): each lasts a part of the half-life, the last one ends at the end."""
    if np.isinf(half_life_h):
        return np.array([begin_ms])
    most = max(min(MAX_PERIODS, MAX_SHARES // item_count), 1)
    lasts_ms = max(half_life_h * HOUR_MS / PERIODS_PER_HALF_LIFE, (end_ms + 1 - begin_ms) / most)
    count = max(int(np.ceil((end_ms + 1 - begin_ms) / lasts_ms)), 1)
    return (end_ms + 1 - lasts_ms * np.arange(count, 0, -1)).astype(np.int64)


def smoothed_share(counts: Doubles) -> Doubles:
    """Return each item's share (I,) of the events; all alike where nothing has happened yet."""
    share = counts / (counts.sum() or 1.0)
    smoothed: Doubles = (1 - SPREAD_SHARE) * share + SPREAD_SHARE / len(counts)
    return smoothed
