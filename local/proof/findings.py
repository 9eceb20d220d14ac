"""What a proof has found so far: differences, and what could not be judged."""

from collections import Counter
from enum import StrEnum


class Apart(StrEnum):
    """Why a user, or a record, was set apart: neither right nor wrong, as the servers no longer say which."""

    BEGAN_BEFORE = "users whose window began before the log's first record (retention, or a bootstrap)"
    DROPPED = "users whose window may have been dropped: not seen for long, or forgotten by now"
    SPLIT = "users with events on several partitions, who have a window on each: check the partitioner"
    EXPIRED = "vectors that have expired (TWINTIDE_TTL_S)"
    NOT_WRITTEN_YET = "vectors that a backfill under way still has to write"
    WITHOUT_WINDOW = "vectors of users whose window the topic alone does not explain, and has changed since"
    INPUTS_GONE = "vectors made with live items that Redis has no more: their long vector alone was compared"
    OTHER_MODEL = "live models whose artifact is not here"
    CATEGORY_NOT_WRITTEN = "categories that cold-start users have no vector for yet"
    DEAD_LETTER_EXPIRED = "unreadable events that are older than the dead-letter topic's first record"


class Findings:
    """Remembers the first difference, and counts."""

    def __init__(self) -> None:
        #: What differs first, empty where nothing does; names the user.
        self.first = ""
        self.differences = 0
        #: Largest difference of a number in a vector.
        self.max_difference = 0.0
        self.apart: Counter[Apart] = Counter()

    def differ(self, what: str) -> None:
        """Note a difference."""
        self.first = self.first or what
        self.differences += 1

    def set_apart(self, reason: Apart, count: int = 1) -> None:
        """Note what could not be judged."""
        self.apart[reason] += count

    @property
    def complaint(self) -> str:
        """Return what contradicts the guarantee, empty where nothing does."""
        more = self.differences - 1
        return f"{self.first} ({more} more differ)" if more > 0 else self.first
