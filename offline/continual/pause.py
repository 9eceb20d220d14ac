"""What is waited for between two steps: time, or so many new events, whichever comes first."""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event

from models.errors import TwintideError

logger = logging.getLogger(__name__)

#: How often it is asked how many events there are (s).
ASK_S = 5.0


@dataclass(frozen=True, slots=True)
class Pause:
    """At most every_s seconds, fewer where so many events have come since the step began (0: nobody asks).

    count tells how many events the topic has had so far; it may raise TwintideError, and is then asked again.
    """

    every_s: float
    events: int
    count: Callable[[], int]

    def begin(self) -> int | None:
        """Return how many events there are as a step begins, for `wait`; None where that is not known."""
        return self._counted() if self.events else None

    def wait(self, before: int | None, stop: Event, at_most_s: float = math.inf) -> None:
        """Wait, until `stop` is set at the latest; before: what `begin` returned."""
        until = time.monotonic() + min(self.every_s, at_most_s)
        asks_s = ASK_S if self.events else math.inf
        while (left_s := until - time.monotonic()) > 0 and not stop.wait(min(left_s, asks_s)):
            now = self._counted() if self.events else None
            before = now if before is None else before
            if now is not None and before is not None and now - before >= self.events:
                logger.info("%d events are new: the next step begins", now - before)
                return

    def _counted(self) -> int | None:
        """Return how many events there are, None where the topic does not say."""
        try:
            return self.count()
        except TwintideError as error:
            logger.warning("how many events are new is not known: %s", error)
            return None
