"""CPU time and memory of a process and its children, sampled now and then from outside."""

import time
from bisect import bisect_right
from contextlib import suppress
from dataclasses import dataclass

import psutil


@dataclass(frozen=True, slots=True)
class Sample:
    """One sample: when (monotonic s), CPU seconds used so far (user and system), resident bytes."""

    at: float
    cpu_s: float
    resident: int


class Watch:
    """What was seen of one process, from its start on."""

    def __init__(self) -> None:
        self._samples: list[Sample] = []

    def sample(self, pid: int | None) -> None:
        """Take a sample; a process that has ended gives none."""
        if pid is None:
            return
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            cpu_s, resident = 0.0, 0
            for each in (process, *process.children(recursive=True)):
                times = each.cpu_times()
                cpu_s += times.user + times.system
                resident += each.memory_info().rss
            self._samples.append(Sample(time.monotonic(), cpu_s, resident))

    def cpu_seconds(self, start: float, end: float) -> float:
        """Return the CPU seconds used between two times, each taken at the last sample before it."""
        before, after = (self._samples[self._last_before(at)] for at in (start, end))
        return after.cpu_s - before.cpu_s

    def peak_mb(self) -> float:
        """Return the most memory seen (MB, 10**6 bytes)."""
        return max(sample.resident for sample in self._samples) / 1e6

    def _last_before(self, at: float) -> int:
        return max(bisect_right(self._samples, at, key=lambda sample: sample.at) - 1, 0)
