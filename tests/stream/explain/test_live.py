"""What the page shows of the last minutes is what the counters say."""

import numpy as np
import pytest

from models.arrays import Ints
from stream.explain.live import SAMPLES, SPAN, Live, Place, Sample, sample
from stream.metrics import FRESHNESS_BUCKETS_S, event_to_vector_seconds, events_total
from stream.windows.assignment import Assignment

BUCKETS = len(FRESHNESS_BUCKETS_S) + 1


def buckets(counts: dict[int, int]) -> Ints:
    """Return cumulative buckets of which these have so many."""
    found = np.zeros(BUCKETS, np.int64)
    found[list(counts)] = list(counts.values())
    return np.cumsum(found)


def place(position: int, lag: int = 0, newest_ms: int = 0, fresh: dict[int, int] | None = None) -> Place:
    return Place(position, lag, newest_ms, buckets(fresh or {}))


def at(second: int, events: float, places: dict[int, Place], fresh: dict[int, int] | None = None) -> Sample:
    """Return a sample; `fresh` has how many events came into which bucket by then."""
    return Sample(100.0 + second, {"applied": events, "late": 0.0}, buckets(fresh or {}), places)


def test_rates_are_of_the_last_samples_and_a_partition_that_came_meanwhile_has_none_yet() -> None:
    live = Live()
    assert live.snapshot()["partitions"] == []
    for second in range(20):
        places = {0: place(100 * second, 7, 5, {1: second})} | ({1: place(50)} if second > 15 else {})
        live.take(at(second, 250.0 * second, places))
    shown = live.snapshot()
    assert shown["rates"] == {"applied": 250.0, "late": 0.0}
    assert [(row["partition"], row["events_per_s"]) for row in shown["partitions"]] == [(0, 100.0), (1, 0.0)]
    assert [(row["lag"], row["next_offset"], row["newest_ms"]) for row in shown["partitions"]] == [
        (7, 1900, 5),
        (0, 50, None),
    ]
    assert [(row["p50_ms"], row["p99_ms"]) for row in shown["partitions"]] == [(7.5, 10.0), (None, None)]
    assert shown["series"]["events_per_s"] == [250.0] * 19


def test_partition_that_is_read_again_is_not_read_backwards() -> None:
    live = Live()
    live.take(at(0, 0, {0: place(1000)}))
    live.take(at(1, 0, {0: place(10)}))
    assert live.snapshot()["partitions"][0]["events_per_s"] == 0


def test_quantiles_are_those_of_prometheus_and_none_where_nothing_came() -> None:
    live = Live()
    live.take(at(0, 0, {}))
    live.take(at(1, 0, {}))
    live.take(at(2, 0, {}, {1: 98, 3: 2}))  # 98 between 5 and 10 ms, 2 between 20 and 30
    live.take(at(3, 0, {}, {1: 98, 3: 2, BUCKETS - 1: 9900}))  # above the last bound
    p50, p99 = (live.snapshot()["series"][name] for name in ("p50_ms", "p99_ms"))
    assert p50 == [None, pytest.approx(5 + 5 * 50 / 98, abs=0.1), 60_000.0]
    assert p99 == [None, pytest.approx(25, abs=0.1), 60_000.0]


def test_memory_is_bounded() -> None:
    live = Live()
    for second in range(SAMPLES + SPAN + 5):
        live.take(at(second, 0, {}))
    assert len(live.snapshot()["series"]["time_s"]) == SAMPLES


def test_sample_reads_the_counters_of_metrics() -> None:
    before = sample(Assignment(0, {}))
    events_total.labels("applied").inc(5)
    event_to_vector_seconds.observe(np.array([0.001, 100.0]), np.array([3, 3]))
    after = sample(Assignment(0, {}))
    assert after.results["applied"] - before.results.get("applied", 0) == 5
    grown = after.buckets - before.buckets
    assert (len(grown), grown[0], grown[-2], grown[-1]) == (BUCKETS, 1, 1, 2)
