"""Every metric of the worker; no user or item id is ever a label."""

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import REGISTRY, Collector

events_total = Counter("twintide_events_total", "Events read, by what became of them.", ["result"])
event_time_lag_seconds = Gauge(
    "twintide_event_time_lag_seconds", "Wall-clock minus event time of the newest event of the last batch."
)
consumer_lag_events = Gauge(
    "twintide_consumer_lag_events", "Events of a partition that are not yet read.", ["partition"]
)
dirty_users = Gauge("twintide_dirty_users", "Changed users whose vector is not yet written.")
batch_users = Histogram(
    "twintide_batch_users", "Users encoded together.", buckets=[2**power for power in range(11)]
)
stage_seconds = Histogram(
    "twintide_stage_seconds",
    "Time of one batch in a stage: fold, encode, upsert, changelog, rocksdb, commit.",
    ["stage"],
    buckets=[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5],
)
encoded_users_total = Counter("twintide_encoded_users_total", "Users encoded.", ["tower"])
device_failures_total = Counter(
    "twintide_device_failures_total", "Times that a GPU failed and the CPU took over for good."
)
encodes_saved_total = Counter(
    "twintide_encodes_saved_total",
    "Events that needed no encode of their own: their user's next one had them.",
)
upserts_total = Counter("twintide_upserts_total", "Vectors offered to Redis, by result.", ["result"])
commit_age_seconds = Gauge("twintide_commit_age_seconds", "Seconds since source offsets were last committed.")
recovery_records_total = Counter("twintide_recovery_records_total", "Changelog records restored.")
recovery_remaining = Gauge("twintide_recovery_remaining", "Changelog records still to restore.")
rebalances_total = Counter("twintide_rebalances_total", "Times that partitions were taken or given.")
dlq_total = Counter("twintide_dlq_total", "Events sent to the dead-letter topic, by reason.", ["reason"])
model_info = Gauge("twintide_model_info", "1 for the model that readers get.", ["version"])
model_coverage = Gauge(
    "twintide_model_coverage",
    "Share of a partition's users that surely have the vectors of all live models.",
    ["partition"],
)
model_changes_total = Counter(
    "twintide_model_changes_total",
    "Steps of changes of models: stage, served, roll_back, retire, and refused for one that cannot be used.",
    ["step"],
)
rewritten_users_total = Counter(
    "twintide_rewritten_users_total",
    "Users written again from state: for a new model, or a Redis that lost their vectors.",
)


class BatchHistogram(Collector):
    """A histogram that observes a whole batch at once: per-event observing costs more than the fold."""

    def __init__(self, name: str, documentation: str, buckets: Iterable[float]) -> None:
        self.name = name
        self.documentation = documentation
        self.bounds = np.array(sorted(buckets))
        self._counts = np.zeros(len(self.bounds) + 1, dtype=np.int64)
        self._sum = 0.0
        REGISTRY.register(self)

    def observe(self, values: npt.NDArray[np.float64]) -> None:
        """Add the values (E,)."""
        places = np.searchsorted(self.bounds, values, side="left")
        self._counts += np.bincount(places, minlength=len(self._counts))
        self._sum += float(values.sum())

    def collect(self) -> Iterable[HistogramMetricFamily]:
        cumulative = np.cumsum(self._counts)
        bounds = [*(str(bound) for bound in self.bounds), "+Inf"]
        buckets = [(bound, float(count)) for bound, count in zip(bounds, cumulative, strict=True)]
        yield HistogramMetricFamily(self.name, self.documentation, buckets=buckets, sum_value=self._sum)


event_to_vector_seconds = BatchHistogram(
    "twintide_event_to_vector_seconds",
    "From the producer's send time of an event to Redis' answer for its user's vector.",
    [0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 2, 5, 10, 30, 60],
)


def show_models(serving: str, is_whole: Mapping[int, bool]) -> None:
    """Say which model readers get, and which partitions have all vectors of all live models."""
    model_info.clear()
    model_info.labels(serving).set(1)
    for partition, whole in is_whole.items():
        if whole:
            model_coverage.labels(str(partition)).set(1)
