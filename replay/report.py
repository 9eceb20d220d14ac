"""What a replay did, and whether it kept the pace that was asked of it."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from replay.lateness import Lateness
from replay.records import Records, counts_of

#: A pace below this share of the one asked for is missed, where that is more than so much time (s).
KEPT_PACE, GRACE_S = 0.99, 0.05

#: Quantiles of lateness that a report holds.
QUANTILES = {"p50": 0.5, "p99": 0.99, "max": 1.0}


@dataclass(slots=True)
class Report:
    """What was handed over so far; all but `digest` is of this run alone, not of one that it resumes."""

    #: How many records stand before the first one, acknowledged when an earlier run was cut off.
    resumed_at: int = 0
    records: int = 0
    acknowledged: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    #: Whether nothing is left, and of that whole, what proves it the same as another.
    is_whole: bool = False
    digest: str = ""
    #: When the first and the last record were due, and the last was handed over (s after the start).
    first_due_s: float = 0.0
    last_due_s: float = 0.0
    handed_over_s: float = 0.0
    #: From when the first record was due to the last acknowledgement, without pauses (s); and these.
    seconds: float = 0.0
    paused_s: float = 0.0
    #: The earliest and the latest event (epoch ms).
    earliest_ms: int = 0
    latest_ms: int = 0
    lateness: Lateness = field(default_factory=Lateness)

    def add(self, records: Records, now_s: float | None = None) -> None:
        """Take in records, and when they were handed over; None where they only would be."""
        if not len(records):
            return
        low_ms, high_ms = int(records.time_ms.min()), int(records.time_ms.max())
        if not self.records:
            self.first_due_s = float(records.due_s[0])
            self.earliest_ms, self.latest_ms = low_ms, high_ms
        self.records += len(records)
        self.last_due_s = float(records.due_s[-1])
        self.earliest_ms, self.latest_ms = min(low_ms, self.earliest_ms), max(high_ms, self.latest_ms)
        for name, number in counts_of(records.marks).items():
            self.counts[name] = self.counts.get(name, 0) + number
        if now_s is not None:
            self.handed_over_s = now_s
            self.lateness.add(now_s - records.due_s)

    @property
    def asked_s(self) -> float:
        """Return how long it was to take, from the first record to the last (s)."""
        return self.last_due_s - self.first_due_s

    @property
    def taken_s(self) -> float:
        """Return how long it took, from when the first record was due, without pauses (s)."""
        return self.handed_over_s - self.first_due_s

    @property
    def pace(self) -> float | None:
        """Return the share of the pace asked for that was kept; None where none was asked for."""
        return self.asked_s / max(self.taken_s, self.asked_s) if self.asked_s else None

    @property
    def has_missed_pace(self) -> bool:
        """Return whether the pace was missed by more than 1 %."""
        is_behind = self.taken_s - self.asked_s > GRACE_S
        return self.pace is not None and self.pace < KEPT_PACE and is_behind

    def progress(self) -> str:
        """Return how fast it is, and how late, in a few words."""
        rate = f"{self.records / max(self.taken_s, 1e-9):,.0f}/s"
        if self.pace is None:
            return rate
        late_ms = self.lateness.quantile_s(0.99) * 1_000
        return f"{rate}, {self.pace:.1%} of the pace, p99 {late_ms:.1f} ms late"

    def planned(self) -> dict[str, Any]:
        """Return what does not depend on clock and Kafka."""
        return {
            "records": self.records,
            **self.counts,
            "first_event": _iso(self.earliest_ms) if self.records else None,
            "last_event": _iso(self.latest_ms) if self.records else None,
            "asked_seconds": round(self.asked_s, 3),
            "digest": self.digest if self.is_whole else None,
        }

    def measured(self) -> dict[str, Any]:
        """Return what was measured."""
        late_ms = {
            name: round(self.lateness.quantile_s(share) * 1_000, 2) for name, share in QUANTILES.items()
        }
        return {
            "resumed_at": self.resumed_at,
            "acknowledged": self.acknowledged,
            "seconds": round(self.seconds, 3),
            "paused_seconds": round(self.paused_s, 3),
            "records_per_second": round(self.records / max(self.seconds, 1e-9)),
            "pace": None if self.pace is None else round(self.pace, 4),
            "lateness_ms": None if self.pace is None else late_ms,
        }


def _iso(time_ms: int) -> str:
    return f"{np.datetime64(time_ms, 'ms')}+00:00"  # a datetime knows no year after 9999
