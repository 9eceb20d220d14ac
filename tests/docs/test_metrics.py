"""docs/metrics.md has every metric there is, with its kind, its labels and what they may be."""

import ast
import re
from collections.abc import Iterator

from prometheus_client.metrics import MetricWrapperBase

import stream.metrics
from offline.continual import metrics as trainer_metrics
from stream.canary import metrics as canary_metrics
from stream.items import metrics as items_metrics
from stream.rollout.decision import Step
from stream.serving import metrics as serving_metrics
from tests.docs.markdown import DOCS, ROOT, plain, rows

MODULES = (stream.metrics, trainer_metrics, canary_metrics, items_metrics, serving_metrics)
ROWS = rows(DOCS / "metrics.md", "metric")


def metrics() -> Iterator[tuple[str, str, str]]:
    """Yield name, kind and label of every metric."""
    for metric in (each for module in MODULES for each in vars(module).values()):
        if isinstance(metric, MetricWrapperBase | stream.metrics.BatchHistogram):
            (family,) = metric.collect()
            suffix = "_total" if family.type == "counter" else ""
            yield family.name + suffix, family.type, ", ".join(getattr(metric, "_labelnames", ()))


def words_of_the_code() -> set[str]:
    """Return all texts in the code of stream/, trainer and learner, and the steps of a rollout."""
    rooms = ROOT / "stream", ROOT / "offline" / "continual", ROOT / "models" / "items"
    trees = [ast.parse(path.read_text()) for room in rooms for path in room.rglob("*.py")]
    nodes = (node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant))
    return {str(node.value) for node in nodes} | {step.name.lower() for step in Step}


def test_every_metric_stands_in_the_table_and_every_row_is_a_metric() -> None:
    shown = [(plain(row["metric"]), row["kind"], plain(row["label"])) for row in ROWS]
    assert sorted(shown) == sorted(metrics())


def test_values_of_labels_are_words_that_the_code_has() -> None:
    shown = {value for row in ROWS for value in re.findall(r"`(\w+)`", row["values"])}
    assert len(shown) > 20
    assert shown <= words_of_the_code()


def test_status_of_health_are_all_that_there_are() -> None:
    shown = {plain(row["status"]) for row in rows(DOCS / "metrics.md", "status")}
    text = (ROOT / "stream" / "worker" / "health.py").read_text()
    assert shown == set(re.findall(r'Health\("(\w+)"', text))
