"""Every metric of the trainer, in a registry of its own; no user or item id is ever a label."""

from prometheus_client import CollectorRegistry, Counter, Gauge

REGISTRY = CollectorRegistry()

leads = Gauge("twintide_trainer_leads", "1 where this trainer leads, 0 where it waits.", registry=REGISTRY)
steps_total = Counter(
    "twintide_trainer_steps_total",
    "Steps, by how they ended: published, refused, too_few, rolling_out, failed.",
    ["result"],
    registry=REGISTRY,
)
for _result in ("published", "refused", "too_few", "rolling_out", "failed"):
    steps_total.labels(_result)  # to Prometheus a counter that begins at 1 has not grown
rows_learned_total = Counter(
    "twintide_trainer_rows_learned_total", "New rows of models that were published.", registry=REGISTRY
)
ndcg = Gauge(
    "twintide_trainer_ndcg",
    "NDCG at the last gate, on rows that neither model had learned.",
    ["model"],
    registry=REGISTRY,
)
model_age_seconds = Gauge(
    "twintide_trainer_model_age_seconds",
    "Wall-clock time minus the event time up to which the published model has learned.",
    registry=REGISTRY,
)
unlearned_seconds = Gauge(
    "twintide_trainer_unlearned_seconds",
    "Event time of the newest row minus the one up to which the published model has learned.",
    registry=REGISTRY,
)
published_timestamp_seconds = Gauge(
    "twintide_trainer_published_timestamp_seconds",
    "When what is active was published (epoch s).",
    registry=REGISTRY,
)
