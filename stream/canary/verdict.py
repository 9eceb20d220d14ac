"""What a canary's run says of a deployment, in one line."""

import numpy as np

from stream.canary.canary import Findings


def complaints(found: Findings, p99_ms: float | None) -> list[str]:
    """Return what is wrong, in words; `p99_ms` is the most that 99 % of the events may take (ms)."""
    kinds = ((found.lost, "were never readable"), (found.refused, "were not taken by Kafka"))
    wrong = [
        f"{sum(counts.values())} events {what}, of partitions {', '.join(map(str, sorted(counts)))}"
        for counts, what in kinds
        if counts
    ]
    if not found.readable:
        wrong.append("no event was ever readable")
    elif p99_ms is not None and (measured := percentile_ms(found, 99)) > p99_ms:
        wrong.append(f"99 % of the events were readable after {measured:.0f} ms, not {p99_ms:g} ms")
    if wrong and found.last_error:
        wrong.append(found.last_error)
    return wrong


def percentile_ms(found: Findings, quantile: float) -> float:
    """Return within which time so many percent of the events were readable (ms); NaN where none was."""
    return float(np.percentile(found.seconds, quantile)) * 1000 if found.seconds else float("nan")


def summary(found: Findings, partitions: int) -> str:
    """Return the figures."""
    p50, p99, most = (f"{percentile_ms(found, quantile):.0f}" for quantile in (50, 99, 100))
    return (
        f"canary: partitions={partitions} sent={found.sent} readable={found.readable} "
        f"lost={sum(found.lost.values())} refused={sum(found.refused.values())} "
        f"p50_ms={p50} p99_ms={p99} max_ms={most}"
    )
