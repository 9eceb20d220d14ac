"""The rows of a behaviour log that cannot be used: which lines, and why; too many of them are an error."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models.errors import DataError
from models.log.places import Places

logger = logging.getLogger(__name__)

#: Bad rows that a message shows.
SHOWN = 3
#: As few as a message shows are left out of a small log too, if they are not more than this share of it.
SHARE_OF_FEW = 0.01


class BadRows:
    """Collects what is wrong with the R rows of a log, whose lines are line (R,), and with broken lines.

    A broken line has another number of fields than the header, so that it is no row at all.
    """

    def __init__(self, name: str, places: Places, line: NDArray[np.int64]) -> None:
        self.name, self.places, self.line = name, places, line
        self.is_bad = np.zeros(len(line), dtype=np.bool_)
        #: What is wrong by line, of a few rows.
        self.reasons: dict[int, str] = {}
        self.broken = 0

    def __len__(self) -> int:
        return int(self.is_bad.sum()) + self.broken

    def add(self, rows: NDArray[np.int64], reason: Callable[[int], str]) -> None:
        """Note rows, in the order of the log; reason says what is wrong with one, the value in it."""
        for row in rows[:SHOWN].tolist():
            self.reasons.setdefault(int(self.line[row]), reason(row))
        self.is_bad[rows] = True

    def add_broken(self, count: int, reasons: dict[int, str]) -> None:
        """Note lines that are no rows: how many, and what is wrong with the first of them, by line."""
        self.broken += count
        self.reasons = reasons | self.reasons

    def check(self, share: float) -> None:
        """Raise DataError where more than this share of all rows is bad; log a warning where fewer are."""
        count = BadCount(len(self), len(self.line) + self.broken, self.reasons)
        check_share(self.name, self.places, count, share)


@dataclass(slots=True)
class BadCount:
    """How many rows of how many are bad, and what is wrong with some of them, by line."""

    bad: int = 0
    total: int = 0
    reasons: dict[int, str] = field(default_factory=dict)

    def add(self, rows: BadRows) -> None:
        """Count those of the next part of a log, too."""
        self.bad += len(rows)
        self.total += len(rows.line) + rows.broken
        if len(self.reasons) < SHOWN:
            self.reasons |= rows.reasons


def check_share(name: str, places: Places, count: BadCount, share: float) -> None:
    """Raise DataError where more than this share of a log's rows is bad; log a warning where fewer are."""
    if not count.bad:
        return
    first = sorted(count.reasons.items())[:SHOWN]
    if count.bad > max(count.total * share, min(SHOWN, count.total * SHARE_OF_FEW) if share else 0):
        line, reason = first[0]
        raise DataError(
            f"{places.name(line)}: {reason}; mend or remove it ({count.bad:,} of {count.total:,} rows are "
            f"bad; up to {share:.2%} would be left out, see bad_share of --format)"
        )
    shown = "; ".join(f"{places.short_name(line)}: {reason}" for line, reason in first)
    logger.warning("%s: %d of %d rows are bad and left out: %s", name, count.bad, count.total, shown)
