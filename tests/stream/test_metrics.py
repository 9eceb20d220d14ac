"""What /metrics shows: histograms of whole batches, and one serving model."""

import numpy as np
from prometheus_client.registry import REGISTRY

from stream import metrics


def test_histogram_of_batches_counts_what_is_at_most_each_bound() -> None:
    histogram = metrics.BatchHistogram("test_batch_seconds", "For this test.", [0.1, 1.0])
    try:
        histogram.observe(np.array([0.1, 0.5]), np.array([0, 2]))
        histogram.observe(np.array([3.0]), np.array([2]))
        histogram.observe(np.array([]), np.array([], np.int64))
        assert histogram.cumulative().tolist() == [1, 2, 3]
        of_partitions = [histogram.cumulative(number).tolist() for number in (0, 1, 2)]
        assert of_partitions == [[1, 1, 1], [0, 0, 0], [0, 1, 2]]
        (family,) = histogram.collect()
        values = {(each.name, each.labels.get("le")): each.value for each in family.samples}
    finally:
        REGISTRY.unregister(histogram)
    assert values == {
        ("test_batch_seconds_bucket", "0.1"): 1,
        ("test_batch_seconds_bucket", "1.0"): 2,
        ("test_batch_seconds_bucket", "+Inf"): 3,
        ("test_batch_seconds_count", None): 3,
        ("test_batch_seconds_sum", None): 3.6,
    }


def test_one_model_is_shown_after_a_switch() -> None:
    try:
        for serving in ("m1", "m2", "m2"):
            metrics.show_models(serving, {})
        (family,) = metrics.model_info.collect()
        assert [(each.labels["version"], each.value) for each in family.samples] == [("m2", 1)]
    finally:
        metrics.model_info.clear()
