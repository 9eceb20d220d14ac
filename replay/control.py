"""What signals ask of a replay: to stop in good order, to pause, to resume; and a clock that can pause."""

import signal
import time
from collections.abc import Callable
from types import FrameType


class Stop:
    """Notices the first SIGINT or SIGTERM, so that a command ends what it has begun; a second kills it."""

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


class Pause:
    """Notices SIGUSR1, which asks for a pause, and SIGUSR2, which ends it."""

    def __init__(self) -> None:
        self.is_asked = False

    def __enter__(self) -> "Pause":
        signals = (signal.SIGUSR1, signal.SIGUSR2)
        self._previous = {number: signal.signal(number, self._notice) for number in signals}
        return self

    def __exit__(self, *_error: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _notice(self, number: int, _frame: FrameType | None) -> None:
        self.is_asked = number == signal.SIGUSR1


class PausingClock:
    """Seconds since it was made, without the pauses."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.begin()

    def begin(self, at_s: float = 0.0) -> None:
        """Show this time now."""
        self.paused_s = 0.0
        self._paused_at: float | None = None
        self._start = self._clock() - at_s

    def __call__(self) -> float:
        now = self._clock() if self._paused_at is None else self._paused_at
        return now - self._start - self.paused_s

    def pause(self) -> None:
        """Stand still from now on."""
        if self._paused_at is None:
            self._paused_at = self._clock()

    def resume(self) -> None:
        """Go on from where it stood still."""
        if self._paused_at is not None:
            self.paused_s += self._clock() - self._paused_at
            self._paused_at = None
