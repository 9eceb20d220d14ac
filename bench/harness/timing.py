"""How long calls take."""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import numpy as np

from bench.harness.report import Result

A = TypeVar("A")


def seconds_of(act: Callable[[A], object], arguments: Iterable[A]) -> list[float]:
    """Return how long each call took (s)."""
    times = []
    for argument in arguments:
        started = time.perf_counter()
        act(argument)
        times.append(time.perf_counter() - started)
    return times


def percentiles(times: Sequence[float]) -> Result:
    """Return the median and the 99th percentile of times (s), in milliseconds."""
    p50, p99 = np.percentile(np.array(times) * 1e3, (50, 99))
    return {"p50_ms": float(p50), "p99_ms": float(p99)}
