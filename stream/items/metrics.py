"""Every metric of the item learner, in a registry of its own; no user or item id is ever a label."""

from prometheus_client import CollectorRegistry, Counter, Gauge

REGISTRY = CollectorRegistry()

leads = Gauge("twintide_items_leads", "1 where this item learner leads, 0 where it waits.", registry=REGISTRY)
live = Gauge("twintide_items_live", "Items that readers have, by model.", ["version"], registry=REGISTRY)
new = Gauge(
    "twintide_items_new",
    "Items that readers have and the model does not know.",
    ["version"],
    registry=REGISTRY,
)
events_total = Counter(
    "twintide_items_events_total",
    "Events, by what became of them: learned, duplicate, repeated, rejected.",
    ["version", "result"],
    registry=REGISTRY,
)
lag_events = Gauge(
    "twintide_items_lag_events",
    "Events that the learner has not learned yet.",
    ["version"],
    registry=REGISTRY,
)
norm = Gauge(
    "twintide_items_norm", "Mean length of the items' output vectors.", ["version"], registry=REGISTRY
)
loss = Gauge(
    "twintide_items_loss",
    "Loss (nats) of the stream's last events before they were learned, live and with the vectors as trained.",
    ["version", "vectors"],
    registry=REGISTRY,
)
sane = Gauge(
    "twintide_items_sane", "1 where what is learned is fit to be published.", ["version"], registry=REGISTRY
)
published_bytes_total = Counter(
    "twintide_items_published_bytes_total", "Bytes that each reader took.", ["version"], registry=REGISTRY
)
published_input_bytes_total = Counter(
    "twintide_items_published_input_bytes_total",
    "Bytes that each worker took to encode with.",
    ["version"],
    registry=REGISTRY,
)
waiting_rows = Gauge(
    "twintide_items_waiting_rows",
    "Items that have moved and wait for room in the bytes of a second.",
    ["version"],
    registry=REGISTRY,
)
published_timestamp_seconds = Gauge(
    "twintide_items_published_timestamp_seconds",
    "When readers last got something (epoch s).",
    ["version"],
    registry=REGISTRY,
)
snapshot_timestamp_seconds = Gauge(
    "twintide_items_snapshot_timestamp_seconds",
    "When the state was last kept in Kafka (epoch s).",
    ["version"],
    registry=REGISTRY,
)
event_time_lag_seconds = Gauge(
    "twintide_items_event_time_lag_seconds",
    "Wall-clock time minus the time of the newest event that was learned.",
    ["version"],
    registry=REGISTRY,
)

#: Metrics of one version, to be removed when it is not live any more.
OF_VERSION = (
    *(live, new, lag_events, norm, sane, waiting_rows),
    *(published_timestamp_seconds, snapshot_timestamp_seconds, event_time_lag_seconds),
)


def forget(version: str) -> None:
    """Show nothing of a version any more."""
    for gauge in OF_VERSION:
        gauge.remove(version)
    for vectors in ("live", "trained"):
        loss.remove(version, vectors)
