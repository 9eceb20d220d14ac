"""One replay, from the first row to the last acknowledgement, or until a signal."""

import signal
import time
from dataclasses import dataclass
from types import FrameType

from tqdm import tqdm

from models.log.behaviour_log import BehaviourLog
from replay.publisher import ReplayProducer
from replay.schedule import due_times_s, paced_slices
from replay.source import MessageSource


class Stop:
    """Notices the first SIGINT or SIGTERM, so that a replay waits for what it has sent; a second kills it."""

    def __init__(self) -> None:
        self.signal_number = 0

    def __enter__(self) -> "Stop":
        signals = (signal.SIGINT, signal.SIGTERM)
        self._previous = {number: signal.signal(number, self._notice) for number in signals}
        return self

    def __exit__(self, *_error: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def is_stopping(self) -> bool:
        """Return whether a signal has come."""
        return self.signal_number != 0

    def _notice(self, number: int, _frame: FrameType | None) -> None:
        self.signal_number = number
        self.__exit__()


@dataclass(frozen=True, slots=True)
class Published:
    """What a replay did."""

    events: int
    #: From the first event to the acknowledgement of the last (s).
    seconds: float
    #: How many times faster than they happened the events were handed over.
    speed: float

    def __str__(self) -> str:
        return (
            f"published={self.events} seconds={self.seconds:.1f} "
            f"events_per_second={self.events / max(self.seconds, 1e-9):.0f} speed={self.speed:.1f}x"
        )


def replay(log: BehaviourLog, speed: float, publisher: ReplayProducer, stop: Stop) -> Published:
    """Publish a log that is in time order; UnreachableError where an event did not arrive."""
    source = MessageSource(log)
    due_s = due_times_s(log.time_ms, log.precision_ms)
    start_s = time.monotonic()
    with tqdm(total=len(log), unit="event", unit_scale=True, desc="replay", disable=None) as bar:
        for rows in paced_slices(due_s, speed, time.monotonic, time.sleep):
            if stop.is_stopping():
                break
            publisher.send(source.messages(rows))
            bar.update(rows.stop - rows.start)
        sending_s = time.monotonic() - start_s
        publisher.finish()
    event_s = float(due_s[publisher.sent - 1]) if publisher.sent else 0.0
    return Published(publisher.sent, time.monotonic() - start_s, event_s / max(sending_s, 1e-9))
