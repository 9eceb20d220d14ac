"""What a replay does to a log on purpose, in shares of its rows."""

from dataclasses import dataclass
from enum import IntFlag

import numpy as np
from numpy.typing import NDArray

from models.errors import SettingsError
from replay.chance import Chance, Draw

#: The user who takes the share of --hot-user.
HOT_USER = "hot-user"


class Mark(IntFlag):
    """What was done to a record."""

    DUPLICATE = 1
    MALFORMED = 2
    DISORDERED = 4
    LATE = 8
    HOT_USER = 16


@dataclass(frozen=True, slots=True)
class Disturbances:
    """Shares of rows, from 0 to 1, and delays in seconds of event time."""

    #: Rows that are sent later than they happened, by up to so much.
    disordered: float = 0.0
    disordered_within_s: float = 600.0
    #: Rows that are sent so much later than they happened.
    late: float = 0.0
    late_by_s: float = 86_400.0
    #: Rows that are sent a second time, up to so much later.
    duplicate: float = 0.0
    duplicate_within_s: float = 600.0
    #: Rows after which a record comes that cannot be read.
    malformed: float = 0.0
    #: Rows that become one user's.
    hot_user: float = 0.0

    def __post_init__(self) -> None:
        if self.disordered + self.late > 1:
            raise SettingsError(
                f"--disorder and --late are {self.disordered + self.late:.0%} of the rows together; "
                "a row is one or the other: ask for 100% at most"
            )

    @property
    def move_rows(self) -> bool:
        """Return whether records come in another order than rows."""
        return bool(self.disordered or self.late or self.duplicate)


@dataclass(frozen=True, slots=True)
class Disturbed:
    """What becomes of R rows: M records, row by row; a row's own comes before what is made of it."""

    #: (M,) which row, what was done to it, and how much later it is due (s of event time).
    row: NDArray[np.int64]
    marks: NDArray[np.uint8]
    delay_s: NDArray[np.float64]


def disturbed(wanted: Disturbances, chance: Chance, positions: NDArray[np.int64]) -> Disturbed:
    """Return what becomes of the rows at these positions (R,)."""
    kind = chance.of(Draw.DELAY_KIND, positions)
    is_late = kind < wanted.late
    is_disordered = ~is_late & (kind < wanted.late + wanted.disordered)
    is_hot = chance.of(Draw.HOT_USER, positions) < wanted.hot_user
    marks = is_disordered * Mark.DISORDERED + is_late * Mark.LATE + is_hot * Mark.HOT_USER
    within_s = chance.of(Draw.DELAY, positions) * wanted.disordered_within_s
    delay_s = np.where(is_late, wanted.late_by_s, np.where(is_disordered, within_s, 0.0))
    again = np.flatnonzero(chance.of(Draw.DUPLICATE, positions) < wanted.duplicate)
    again_s = chance.of(Draw.DUPLICATE_DELAY, positions[again]) * wanted.duplicate_within_s
    broken = np.flatnonzero(chance.of(Draw.MALFORMED, positions) < wanted.malformed)
    row = np.concatenate((np.arange(len(positions)), again, broken))
    all_marks = np.concatenate(
        (marks, marks[again] & Mark.HOT_USER | Mark.DUPLICATE, np.full(len(broken), Mark.MALFORMED))
    )
    delays_s = np.concatenate((delay_s, delay_s[again] + again_s, delay_s[broken]))
    order = np.argsort(row, kind="stable")
    return Disturbed(row[order], all_marks[order].astype(np.uint8), delays_s[order])
