"""When what happened at a moment of the log is sent: a speed, a ramp of speeds, and at most so many a second.

Event time is counted from the first event, sending time from the start of the replay; both in seconds.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.durations import duration_s
from models.errors import SettingsError
from replay.amounts import parse_factor

Seconds = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Pace:
    """How event time becomes sending time: from one speed to another over a time, which the last one keeps.

    A speed is how many times faster events are sent than they happened.
    """

    first: float = 100.0
    last: float = 100.0
    #: How long it takes from the first to the last (s).
    ramp_s: float = 0.0
    #: Events sent a second at most; no limit where it is infinite.
    rate_limit: float = math.inf

    @classmethod
    def of(cls, speed: str, ramp: str | None = None, rate_limit: float | None = None) -> "Pace":
        """Return the pace of the options --speed, --ramp, which takes its place, and --rate-limit."""
        limit = math.inf if rate_limit is None else rate_limit
        if not limit > 0:
            raise SettingsError(f"--rate-limit is {limit:g}; give a number of events a second above 0")
        if ramp is None:
            factor = math.inf if speed == "max" else parse_factor("--speed", speed)
            return cls(factor, factor, rate_limit=limit)
        parts = ramp.split(":")
        if len(parts) != 3:
            raise SettingsError(f"--ramp is {ramp!r}; give two speeds and a duration such as 1x:100x:10m")
        first, last = (parse_factor("--ramp", part) for part in parts[:2])
        return cls(first, last, duration_s("--ramp", parts[2]), limit)

    @property
    def is_max(self) -> bool:
        """Return whether events are sent as fast as Kafka takes them."""
        return self.first == math.inf and self.rate_limit == math.inf

    def __str__(self) -> str:
        speed = "max" if self.first == math.inf else f"{self.first:g}x"
        ramp = f" to {self.last:g}x over {self.ramp_s:g} s" if self.ramp_s else ""
        return speed + ramp + ("" if self.rate_limit == math.inf else f", at most {self.rate_limit:,.9g}/s")

    def sending_s(self, event_s: Seconds) -> Seconds:
        """Return when events (R,) are due, before any limit of the rate."""
        if self.first == math.inf:
            return np.zeros_like(event_s)
        if not self.ramp_s:
            return event_s / self.first
        # Speed grows by `a` a second, so event time is first * t + a * t * t / 2; solved for t without taking
        # nearly equal numbers from each other.
        a = (self.last - self.first) / self.ramp_s
        root = np.sqrt(np.maximum(self.first**2 + 2 * a * event_s, 0.0))
        ramped = 2 * event_s / (self.first + root)
        over_s = event_s - (self.first + self.last) / 2 * self.ramp_s
        return np.where(over_s <= 0, ramped, self.ramp_s + over_s / self.last)

    def event_s_at_speed_one(self) -> float:
        """Return the event time at which the speed passes 1, or 0.0 where it never does."""
        if not self.ramp_s or (self.first - 1) * (self.last - 1) >= 0:
            return 0.0
        t = (1 - self.first) / (self.last - self.first) * self.ramp_s
        return (self.first + 1) / 2 * t


class Limiter:
    """Delays events so that there are no more a second than the limit; knows when the last one was due."""

    def __init__(self, rate_limit: float) -> None:
        self._step_s = 1 / rate_limit
        self._next_s = 0.0

    def limited(self, due_s: Seconds) -> Seconds:
        """Return when the next events (R,) are due, in ascending order and not before those asked before."""
        if not len(due_s):
            return due_s
        steps_s = np.arange(len(due_s)) * self._step_s
        late_s = np.maximum.accumulate(np.maximum(due_s - steps_s, self._next_s))
        found: Seconds = late_s + steps_s
        self._next_s = float(found[-1]) + self._step_s
        return found
