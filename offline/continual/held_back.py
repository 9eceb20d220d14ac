"""Which of the new rows a model goes on with, and which, the newest, it is judged by."""

from dataclasses import dataclass

import numpy as np

from models.arrays import Flags
from models.errors import DataError
from models.log.behaviour_log import HOUR_MS, BehaviourLog

#: Share of the new rows, the newest, by which a model is judged; and how far in the future a row may lie.
HELD_BACK_SHARE, AHEAD_MS = 0.1, HOUR_MS


@dataclass(frozen=True, slots=True)
class Parts:
    """The rows of a log (R,): new ones that are learned, and newer ones, since `cut_ms`, that judge."""

    learned: Flags
    held_back: Flags
    cut_ms: int


def without_future(log: BehaviourLog, now_ms: int) -> BehaviourLog:
    """Return the log without rows that lie in the future.

    One of them would say that everything until then was learned, and nothing would be new any more. DataError
    where all do: a clock that is far behind.
    """
    is_past = log.time_ms <= now_ms + AHEAD_MS
    if not is_past.any():
        raise DataError(
            f"{log.path}: all of its {len(log):,} rows are over an hour ahead of this host's clock, "
            f"which says {np.datetime64(now_ms, 'ms')}: set the clock, or say the format's time_unit"
        )
    return log if is_past.all() else log.select(is_past)


def parts_of(log: BehaviourLog, is_new: Flags, min_held_back: int) -> Parts | None:
    """Divide the new rows (R,) of a log; None where they are too few.

    Held back are HELD_BACK_SHARE of them, or `min_held_back` where that is more, and all rows of the same
    time; at most half.
    """
    times_ms = np.sort(log.time_ms[is_new])
    wanted = max(int(len(times_ms) * HELD_BACK_SHARE), min_held_back)
    if len(times_ms) < max(2 * wanted, 2):
        return None
    cut_ms = int(times_ms[len(times_ms) - max(wanted, 1)])
    held_back = is_new & (log.time_ms >= cut_ms)
    learned = is_new & ~held_back
    return Parts(learned, held_back, cut_ms) if learned.any() else None
