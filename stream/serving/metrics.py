"""Every metric of the serving API, in a registry of its own; no user or item id is ever a label."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

REGISTRY = CollectorRegistry()

requests_total = Counter(
    "twintide_serving_requests_total",
    "Requests answered, by path and HTTP status.",
    ["path", "status"],
    registry=REGISTRY,
)
seconds = Histogram(
    "twintide_serving_seconds",
    "From a request's arrival until its answer is sent.",
    ["path"],
    buckets=[0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10],
    registry=REGISTRY,
)
users_total = Counter(
    "twintide_serving_users_total",
    "Users answered for, by whose vector they got: own, or a reader's reason.",
    ["reason"],
    registry=REGISTRY,
)
recommended_items_total = Counter(
    "twintide_serving_recommended_items_total",
    "Items recommended: known to the model, or new, younger than it.",
    ["items"],
    registry=REGISTRY,
)
explored_items_total = Counter(
    "twintide_serving_explored_items_total",
    "Items recommended because little is known of them.",
    registry=REGISTRY,
)
redis_errors_total = Counter(
    "twintide_serving_redis_errors_total", "Requests that Redis did not answer.", registry=REGISTRY
)
load_failures_total = Counter(
    "twintide_serving_load_failures_total",
    "Tries to load a model that is live, or the ranker that is published, that failed.",
    registry=REGISTRY,
)
ready = Gauge("twintide_serving_ready", "1 where this process is warm and may be asked.", registry=REGISTRY)
model_info = Gauge(
    "twintide_serving_model_info", "1 for the version that users get.", ["version"], registry=REGISTRY
)
ranker_info = Gauge(
    "twintide_serving_ranker_info", "1 for the ranker that scores.", ["version"], registry=REGISTRY
)

# To Prometheus a counter that begins at 1 has not grown, and an alert would miss the first time.
for _reason in ("own", "stale", "behind", "long", "category", "cold_start", "other_model"):
    users_total.labels(_reason)
for _items in ("known", "new"):
    recommended_items_total.labels(_items)


def show(info: Gauge, version: str) -> None:
    """Show this version alone, none where it is empty."""
    shown = {sample.labels["version"] for metric in info.collect() for sample in metric.samples}
    if version:
        info.labels(version).set(1)
    for old in shown - {version}:
        info.remove(old)
