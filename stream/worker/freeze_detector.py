"""Noticing that this process was frozen, and that its partitions may be another worker's by now.

A machine that swaps, a container that is paused, a laptop that slept: the group has given the partitions
away, and their new owner has written newer windows, before this process learns of it. What it would write
then, a compacted changelog could keep in place of the newer.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable

logger = logging.getLogger(__name__)

#: Seconds between two polls of the clock.
POLL_CLOCK_EVERY_S = 0.5
#: Being frozen for this long may be too long (s): the group waits 10 s, since a heartbeat up to 3 s before.
TOO_LONG_S = 5.0
#: By this time after it, a heartbeat has told whether the partitions are still ours (s).
DOUBT_S = 5.0


class FreezeDetector:
    """Polls the clock: a long time between two polls means that nothing of this process ran meanwhile."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._polled_at = math.inf
        self._doubt_until = -math.inf

    async def watch(self) -> None:
        """Poll for ever."""
        while True:
            self.poll()
            await asyncio.sleep(POLL_CLOCK_EVERY_S)

    def poll(self) -> None:
        """Read the clock; the first poll starts the watch."""
        now = self._clock()
        frozen_s, self._polled_at = now - self._polled_at, now
        if frozen_s > TOO_LONG_S:
            self._doubt_until = now + DOUBT_S
            logger.warning(
                "this worker was frozen for %.0f s: its partitions may be another worker's, and it writes no "
                "windows until the group has had %g s to say so",
                *(frozen_s, DOUBT_S),
            )

    def is_in_doubt(self) -> bool:
        """Return whether partitions may have been given away without this process knowing it yet."""
        if self._polled_at < math.inf:
            self.poll()
        return self._clock() < self._doubt_until
