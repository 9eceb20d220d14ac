"""What a worker did in the last minutes: throughput, freshness, lag, dead letters, once a second.

A thread of its own reads the counters that /metrics shows, each by itself, and takes nothing from the event
loop; an answer is what it has gathered.
"""

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Event, Thread
from typing import Any

import numpy as np
from prometheus_client.registry import Collector

from models.arrays import Ints
from stream import metrics
from stream.windows.assignment import Assignment

#: Seconds between two samples, and how many are kept: five minutes.
SAMPLE_EVERY_S, SAMPLES = 1.0, 300
#: A rate, or a quantile of freshness, is of the last so many samples.
SPAN = 10


@dataclass(frozen=True, slots=True)
class Place:
    """One partition: the offset of its next event (-1: none yet), and the events that are not read yet.

    newest_ms: time of the newest event; buckets: of freshness, cumulative (the last is all).
    """

    position: int
    lag: int
    newest_ms: int
    buckets: Ints


@dataclass(frozen=True, slots=True)
class Sample:
    """The counters at one moment: `at_s` monotonic, `buckets` as of a Place, of all partitions together."""

    at_s: float
    results: Mapping[str, float]
    buckets: Ints
    partitions: Mapping[int, Place]


@dataclass(frozen=True, slots=True)
class Point:
    """What the page draws of one second; freshness is None where no event came."""

    time_s: float
    events_per_s: float
    p50_ms: float | None
    p99_ms: float | None


class Live:
    """Samples what a worker does; `snapshot` may be called from any thread."""

    def __init__(self) -> None:
        self._samples: deque[Sample] = deque(maxlen=SPAN + 1)
        self._points: deque[Point] = deque(maxlen=SAMPLES)
        self._latest: dict[str, Any] = _state(None, None)

    def start(self, assignment: Any) -> None:
        """Sample for as long as the process lives; `assignment` returns the present one, from any thread."""
        Thread(target=self._run, args=(assignment,), name="explain", daemon=True).start()

    def _run(self, assignment: Any) -> None:
        never, due = Event(), time.monotonic()
        while True:
            self.take(sample(assignment()))
            due = max(due + SAMPLE_EVERY_S, time.monotonic())
            never.wait(due - time.monotonic())

    def take(self, newest: Sample) -> None:
        """Take one more sample; the state that an answer shows is replaced whole."""
        self._samples.append(newest)
        oldest = self._samples[0]
        if newest is not oldest:
            rate = sum(_rates(oldest, newest).values())
            fresh = _quantiles(newest.buckets - oldest.buckets)
            self._points.append(Point(time.time(), round(rate, 1), *fresh))
        points = list(self._points)
        series = {name: [getattr(each, name) for each in points] for name in Point.__slots__}
        self._latest = {"series": series, **_state(oldest, newest)}

    def snapshot(self) -> dict[str, Any]:
        """Return what is known, as the page takes it."""
        return self._latest


def sample(assignment: Assignment) -> Sample:
    """Return the counters as they are now."""
    lag, fresh = _values(metrics.consumer_lag_events), metrics.event_to_vector_seconds
    partitions = {
        number: Place(
            *(each.position, int(lag.get(str(number), each.behind)), each.newest_ms),
            buckets=fresh.cumulative(number),
        )
        for number, each in sorted(assignment.partitions.items())
    }
    return Sample(time.monotonic(), _values(metrics.events_total), fresh.cumulative(), partitions)


def dead_letters() -> dict[str, int]:
    """Return how many records this worker has sent to the dead-letter topic, by reason, most first."""
    counts = {reason: int(count) for reason, count in _values(metrics.dlq_total).items() if count}
    return dict(sorted(counts.items(), key=lambda each: -each[1]))


def _state(oldest: Sample | None, newest: Sample | None) -> dict[str, Any]:
    if oldest is None or newest is None:
        return {"series": {name: [] for name in Point.__slots__}, "rates": {}, "partitions": []}
    elapsed_s = max(newest.at_s - oldest.at_s, 1e-9)
    rows = [
        {"partition": number} | _row(oldest.partitions.get(number), place, elapsed_s)
        for number, place in newest.partitions.items()
    ]
    return {"rates": _rates(oldest, newest), "partitions": rows}


def _row(before: Place | None, now: Place, elapsed_s: float) -> dict[str, Any]:
    """Return what the page says of a partition, `before` being what it was so long ago, None: not held."""
    read = now.position - before.position if before and before.position >= 0 else 0
    p50, p99 = _quantiles(now.buckets - before.buckets) if before else (None, None)
    return {
        "events_per_s": round(max(read, 0) / elapsed_s, 1),
        "p50_ms": p50,
        "p99_ms": p99,
        "lag": now.lag,
        "next_offset": max(now.position, 0),
        "newest_ms": now.newest_ms or None,
    }


def _rates(oldest: Sample, newest: Sample) -> dict[str, float]:
    """Return events per second by what became of them."""
    elapsed_s = max(newest.at_s - oldest.at_s, 1e-9)
    return {
        result: round((count - oldest.results.get(result, 0.0)) / elapsed_s, 1)
        for result, count in newest.results.items()
    }


def _quantiles(buckets: Ints) -> tuple[float | None, float | None]:
    """Return p50 and p99 (ms) of cumulative counts by FRESHNESS_BUCKETS_S, evenly spread inside each bucket.

    As Prometheus has it: what is above the last bound counts as the last bound. None where there is nothing.
    """
    if buckets[-1] <= 0:
        return None, None
    bounds, counts = np.array([0.0, *metrics.FRESHNESS_BUCKETS_S]), np.array([0, *buckets[:-1]])
    p50, p99 = np.interp(np.array([0.5, 0.99]) * buckets[-1], counts, bounds) * 1000
    return round(float(p50), 1), round(float(p99), 1)


def _values(metric: Collector) -> dict[str, float]:
    """Return the values of a metric by its only label."""
    samples = (each for family in metric.collect() for each in family.samples)
    counts = (each for each in samples if not each.name.endswith("_created"))
    return {next(iter(each.labels.values())): each.value for each in counts}
