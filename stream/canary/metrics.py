"""Every metric of the canary, in a registry of its own; no user or item id is ever a label."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from stream.metrics import FRESHNESS_BUCKETS_S

REGISTRY = CollectorRegistry()

seconds = Histogram(
    "twintide_canary_seconds",
    "From sending an event of the canary until a reader of Redis gets the vector that knows it.",
    buckets=FRESHNESS_BUCKETS_S,
    registry=REGISTRY,
)
events_total = Counter(
    "twintide_canary_events_total",
    "Events of the canary, by what became of them: readable, lost, refused.",
    ["partition", "result"],
    registry=REGISTRY,
)
waiting_seconds = Gauge(
    "twintide_canary_waiting_seconds",
    "Seconds since the oldest event of a partition that is not readable yet was sent; 0: all are.",
    ["partition"],
    registry=REGISTRY,
)
