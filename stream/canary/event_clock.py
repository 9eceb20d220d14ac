"""The event time of the canary's events: that of the topic, so that nobody is taken for long gone.

Users who were not seen for a horizon before their partition's newest event are dropped. On a topic into which
old events are replayed, an event of today would make all of them look that old.
"""

import threading
import time
from collections.abc import Callable, Iterable

from models.errors import TwintideError
from models.events import CANARY_PREFIX, Event
from stream.events.decoder import Decoder
from stream.kafka.topic_reader import read_all
from stream.settings import Settings

#: Event time on a topic that has no events: earlier than those of any log that may be replayed (2000-01-01).
EMPTY_MS = 946_684_800_000

#: Records read at the end of each partition.
LAST_RECORDS = 20

#: Seconds between two readings.
FOLLOW_EVERY_S = 30.0


class EventClock:
    """Runs on from the topic's newest event, and never ahead of the wall clock; may be read at any time."""

    def __init__(
        self,
        newest_ms: Callable[[], int],
        wall_clock: Callable[[], float] = time.time,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        """`newest_ms` returns the time of the newest event at the topic's end, 0 where there is none."""
        self._newest_ms = newest_ms
        self._wall_clock = wall_clock
        self._timer = timer
        self._base = (EMPTY_MS, timer())
        self.follow()

    def follow(self) -> None:
        """Catch up with the topic."""
        newest_ms = self._newest_ms()
        if newest_ms > self.now_ms():
            self._base = (newest_ms, self._timer())

    def now_ms(self) -> int:
        """Return the event time of an event of this moment (epoch ms)."""
        base_ms, at_s = self._base
        return min(base_ms + int((self._timer() - at_s) * 1000), int(self._wall_clock() * 1000))

    def keep_following(self, stopping: threading.Event) -> None:
        """Catch up now and then, until the event is set: to be run in a thread of its own."""
        while not stopping.wait(FOLLOW_EVERY_S):
            try:
                self.follow()
            except TwintideError:
                continue  # Kafka is down, which the canary's own events show


def newest_event_ms(settings: Settings, decoder: Decoder) -> int:
    """Return the time of the newest event among the last of each partition, 0 where none can be read."""
    records = read_all(settings.kafka, settings.topic, LAST_RECORDS)
    return _newest(decoder.events([record.value() for record in records]))


def _newest(events: Iterable[Event | None]) -> int:
    others = (each for each in events if each and not str(each.user_id).startswith(CANARY_PREFIX))
    return max((each.time for each in others), default=0)
