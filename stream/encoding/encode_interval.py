"""How soon a user may be encoded again: so that a busy user, or a backlog, costs few encodes."""

import math
import time
from collections.abc import Callable, Iterable
from itertools import takewhile

#: Behind by this many events, a user rests a second between two encodes, and longer or shorter in proportion.
EVENTS_PER_SECOND = 50_000
#: Who would rest for less than this (s) is not behind: what one fetch brings is soon folded.
SHORTEST_S = 0.05
#: The longest rest (s) of a worker that is behind; its commits wait no longer.
LONGEST_S = 3.0


class EncodeInterval:
    """Remembers when users were encoded, as long as that matters.

    The vectors of a worker that is seconds behind are seconds old, however often it makes them; each encode
    that it leaves out lets it catch up sooner. All rest as if they had been encoded when it fell behind.
    """

    def __init__(self, interval_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        #: Events that are still to be read, and since when they are so many that users rest longer.
        self._events_behind = 0
        self._behind_since = -math.inf
        self._least_s = interval_s
        self._clock = clock
        #: When each user was encoded last, the longest ago first.
        self._encoded_at: dict[str, float] = {}

    @property
    def interval_s(self) -> float:
        """The least time between two encodes of one user, as things stand (s)."""
        rest_s = self._events_behind / EVENTS_PER_SECOND
        return max(self._least_s, min(rest_s, LONGEST_S) if rest_s > SHORTEST_S else 0.0)

    def is_behind(self) -> bool:
        """Return whether so many events are still to be read that users rest longer."""
        return self.interval_s > self._least_s

    def note(self, user_ids: Iterable[str]) -> None:
        """Take these users as encoded now."""
        now = self._clock()
        for user_id in user_ids:
            self._encoded_at.pop(user_id, None)
            self._encoded_at[user_id] = now
        longest_ago = now - max(self._least_s, LONGEST_S)
        past = takewhile(lambda each: each[1] <= longest_ago, self._encoded_at.items())
        for user_id, _ in list(past):
            del self._encoded_at[user_id]

    def fall_behind(self, events: int) -> None:
        """Notice how many events are still to be read."""
        was_behind = self.is_behind()
        self._events_behind = events
        if self.is_behind() and not was_behind:
            self._behind_since = self._clock()

    def judge(self) -> Callable[[str], bool]:
        """Return a function that says whether a user may be encoded, as things stand now."""
        latest = self._clock() - self.interval_s
        if self.is_behind() and self._behind_since > latest:
            return lambda _: False
        return lambda user_id: self._encoded_at.get(user_id, latest) <= latest
