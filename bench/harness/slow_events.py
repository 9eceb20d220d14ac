"""Where events were between being sent and being readable: a worker's trace and a probe's times, joined."""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Sequence

import msgspec
import numpy as np

from bench.harness.report import Result
from stream.tracing import Folded, Written

#: What an event passes, in order. `buffer`: read, and not folded yet; `wait`: for its user to be encoded.
STAGES = ("fetch", "decode", "buffer", "fold", "wait", "encode", "write", "seen")
#: The share of events that counts as slow.
SLOW = 0.01


class Passed(msgspec.Struct, frozen=True):
    """An event that a probe has timed: when it was sent and seen (epoch s)."""

    partition: int
    user_id: str
    offset: int
    sent: float
    seen: float


def stages_of(
    events: Sequence[Passed], folded: Sequence[Folded], written: Sequence[Written]
) -> "np.typing.NDArray[np.float64]":
    """Return how long each event was in each of STAGES (s): (E, 8); those of no batch are left out."""
    batches: dict[int, list[Folded]] = defaultdict(list)
    for batch in folded:
        batches[batch.partition].append(batch)
    of_user: dict[tuple[int, str], list[Written]] = defaultdict(list)
    for group in written:
        for partition, user_id in group.users:
            of_user[partition, user_id].append(group)
    rows = []
    for event in events:
        of_partition = batches[event.partition]
        at = bisect_right(of_partition, event.offset, key=lambda each: each.position)
        if at == len(of_partition):
            continue
        batch, groups = of_partition[at], of_user[event.partition, event.user_id]
        first = bisect_left(groups, batch.ended, key=lambda each: each.taken)
        if first < len(groups):
            group = groups[first]
            times = (event.sent, batch.fetched, batch.read, batch.begun, batch.ended)
            rows.append(np.diff([*times, group.taken, group.encoded, group.written, event.seen]))
    return np.array(rows).reshape(-1, len(STAGES))


def by_stage(stages: "np.typing.NDArray[np.float64]") -> dict[str, Result]:
    """Return of each stage how long it took: the median, the mean of the slow hundredth (ms), its share."""
    total = stages.sum(axis=1)
    slow = stages[total >= np.quantile(total, 1 - SLOW)]
    medians, means = np.median(stages, axis=0) * 1e3, slow.mean(axis=0) * 1e3
    shares = means / means.sum()
    return {
        name: {"median_ms": float(median), "slow_ms": float(mean), "share": float(share)}
        for name, median, mean, share in zip(STAGES, medians, means, shares, strict=True)
    }
