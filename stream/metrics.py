"""Every metric of the worker; no user or item id is ever a label."""

from collections.abc import Iterable, Mapping
from threading import Lock

import numpy as np
import numpy.typing as npt
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import REGISTRY, Collector

events_total = Counter("twintide_events_total", "Events read, by what became of them.", ["result"])
event_time_lag_seconds = Gauge(
    "twintide_event_time_lag_seconds",
    "Wall-clock time minus the event time of the newest event in the last batch.",
)
consumer_lag_events = Gauge(
    "twintide_consumer_lag_events", "Events of a partition that are not read yet.", ["partition"]
)
unread_partitions = Gauge(
    "twintide_unread_partitions",
    "Partitions that the event topic got since, and that nobody reads before stream.repartition is run.",
)
not_allowed = Gauge(
    "twintide_not_allowed",
    "1 while Kafka does not allow this worker its group or its topic any more: it waits; /health says why.",
)
redis_refuses = Gauge(
    "twintide_redis_refuses",
    "1 while Redis takes no vectors: they wait, nothing is committed; /health says why after 30 s.",
)
overtaken_events_total = Counter(
    "twintide_overtaken_events_total",
    "Events of a partition that retention took from the topic before they were read.",
    ["partition"],
)
bytes_per_user = Gauge(
    "twintide_bytes_per_user",
    "About how many bytes a user of this worker takes, by where: redis, rocksdb, changelog.",
    ["where"],
)
dirty_users = Gauge("twintide_dirty_users", "Changed users whose vector is not written yet.")
batch_users = Histogram(
    "twintide_batch_users", "Users in one encoded batch.", buckets=[2**power for power in range(11)]
)
stage_seconds = Histogram(
    "twintide_stage_seconds",
    "Time of one batch in a stage: fold, encode, upsert, changelog, rocksdb, commit.",
    ["stage"],
    buckets=[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5],
)
encoded_users_total = Counter("twintide_encoded_users_total", "Users encoded.", ["tower"])
encoded_inputs_total = Counter(
    "twintide_encoded_inputs_total",
    "Users encoded, by how their newest items entered: live, as the item learner has them, or trained.",
    ["inputs"],
)
live_inputs = Gauge("twintide_live_inputs", "Items whose live inputs this worker has, by model.", ["version"])
live_inputs_timestamp_seconds = Gauge(
    "twintide_live_inputs_timestamp_seconds",
    "When the item learner wrote the live inputs that this worker has (epoch s), by model.",
    ["version"],
)
device_failures_total = Counter(
    "twintide_device_failures_total", "GPU failures, after which the CPU encodes until the worker restarts."
)
not_finite_vectors_total = Counter(
    "twintide_not_finite_vectors_total", "Vectors with NaN or infinity, which are not written."
)
encodes_saved_total = Counter(
    "twintide_encodes_saved_total",
    "Events that needed no encode of their own, because one encode covered several events of a user.",
)
upserts_total = Counter(
    "twintide_upserts_total",
    "Vectors sent to Redis: written, or stale where a newer one was there or, foreign, the key is another "
    "application's; batches that were retried.",
    ["result"],
)
commit_age_seconds = Gauge(
    "twintide_commit_age_seconds", "For how long an event that was read has not been committed, at most."
)
recovery_records_total = Counter("twintide_recovery_records_total", "Changelog records restored.")
recovery_remaining = Gauge("twintide_recovery_remaining", "Changelog records still to restore.")
rebalances_total = Counter(
    "twintide_rebalances_total", "Rebalances of the consumer group that this worker took part in."
)
dlq_total = Counter("twintide_dlq_total", "Events sent to the dead-letter topic, by reason.", ["reason"])
schema_registry_down = Gauge(
    "twintide_schema_registry_down", "1 while events wait for a schema registry that does not answer."
)
model_info = Gauge("twintide_model_info", "1 for the version that readers get.", ["version"])
model_coverage = Gauge(
    "twintide_model_coverage",
    "Share of a partition's users who are known to have vectors of all live models.",
    ["partition"],
)
model_changes_total = Counter(
    "twintide_model_changes_total",
    "Steps of model changes: stage, served, roll_back, retire; refused for one that cannot be used, "
    "not_fetched for one that a bucket does not give at the moment.",
    ["step"],
)
publication_failures_total = Counter(
    "twintide_publication_failures_total",
    "Polls after which it was not known what is published: a bucket that does not answer, a damaged store.",
)
rewritten_users_total = Counter(
    "twintide_rewritten_users_total",
    "Users backfilled: written again from state for a new model, or because Redis lost their vectors.",
)

# To Prometheus a counter that begins at 1 has not grown, and an alert would miss the first time.
for _reason in (
    *("unreadable", "no_user", "no_item", "long_id", "behaviour", "time", "key"),
    *("seconds", "microseconds", "nanoseconds"),
    *("frame", "schema", "payload"),
):
    dlq_total.labels(_reason)
for _step in ("refused", "not_fetched"):
    model_changes_total.labels(_step)


class BatchHistogram(Collector):
    """A histogram that observes a whole batch at once: per-event observing costs more than the fold."""

    def __init__(self, name: str, documentation: str, buckets: Iterable[float]) -> None:
        """Register it; `buckets` are the upper bounds."""
        self.name = name
        self.documentation = documentation
        self.bounds = np.array(sorted(buckets))
        self._counts = np.zeros(len(self.bounds) + 1, dtype=np.int64)
        self._sum = 0.0
        self._of_partition: dict[int, npt.NDArray[np.int64]] = {}
        self._lock = Lock()  # observed in the event loop, collected in the thread of /metrics
        REGISTRY.register(self)

    def observe(self, values: npt.NDArray[np.float64], partitions: npt.NDArray[np.int64]) -> None:
        """Add the values (E,), each of a partition (E,)."""
        places = np.searchsorted(self.bounds, values, side="left")
        with self._lock:
            for number in np.unique(partitions).tolist():
                known = self._of_partition.get(number, np.zeros_like(self._counts))
                counts = np.bincount(places[partitions == number], minlength=len(self._counts))
                self._of_partition[number] = known + counts
                self._counts += counts
            self._sum += float(values.sum())

    def cumulative(self, partition: int | None = None) -> npt.NDArray[np.int64]:
        """Return how many values are at most each bound, and all at the end: of one partition, or of all.

        It is no label of the metric: what a partition adds to a histogram is a series for each bucket.
        """
        with self._lock:
            found = self._counts if partition is None else self._of_partition.get(partition)
            return np.cumsum(np.zeros_like(self._counts) if found is None else found)

    def collect(self) -> Iterable[HistogramMetricFamily]:
        """Return the buckets, for /metrics."""
        with self._lock:
            cumulative, sum_value = np.cumsum(self._counts), self._sum
        bounds = [*(str(bound) for bound in self.bounds), "+Inf"]
        buckets = [(bound, float(count)) for bound, count in zip(bounds, cumulative, strict=True)]
        yield HistogramMetricFamily(self.name, self.documentation, buckets=buckets, sum_value=sum_value)


#: Upper bounds of how long an event takes to reach its vector (s).
FRESHNESS_BUCKETS_S = (
    0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 2, 5, 10, 30, 60
)  # fmt: skip

event_to_vector_seconds = BatchHistogram(
    "twintide_event_to_vector_seconds",
    "From the producer's send time of an event to Redis' answer for its user's vector.",
    FRESHNESS_BUCKETS_S,
)


def show_models(serving: str, is_whole: Mapping[int, bool]) -> None:
    """Show which model readers get, and which partitions have all vectors of all live models."""
    shown = {sample.labels["version"] for metric in model_info.collect() for sample in metric.samples}
    model_info.labels(serving).set(1)
    for version in shown - {serving}:  # afterwards: a scrape meanwhile finds two models rather than none
        model_info.remove(version)
    for partition, whole in is_whole.items():
        if whole:
            model_coverage.labels(str(partition)).set(1)
