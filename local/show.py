"""What the demo shows on the terminal: a live view, one user's story, a summary."""

import math
import time
from datetime import UTC, datetime
from types import TracebackType

import numpy as np
from rich.console import Console
from rich.live import Live
from rich.table import Table

from local.freshness import FreshnessProbe
from local.worker import WorkerProcess
from models.artifact.artifact import Artifact
from models.events import Behaviour
from models.log.behaviour_log import BehaviourLog
from models.sessions import starts_session
from stream.serving.reader import UserVectors
from stream.store.vectors import Vector

console = Console(stderr=True)

#: How many items and events of the one user are shown.
ITEMS_SHOWN = 5
EVENTS_SHOWN = 8


def heading(text: str) -> None:
    """Print what comes next."""
    console.rule(f"[bold]{text}", align="left")


class LiveView:
    """Events per second, dirty users, freshness and vectors written, redrawn in place on a terminal."""

    def __init__(self, worker: WorkerProcess, probe: FreshnessProbe) -> None:
        #: Events that the worker has applied so far.
        self.events = 0.0
        self._worker = worker
        self._probe = probe
        self._rate = 0.0
        self._polled_at = time.monotonic()
        self._printed_at = self._polled_at
        self._live = Live(console=console, transient=True, auto_refresh=False)

    def __enter__(self) -> "LiveView":
        if console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def update(self) -> None:
        """Ask the worker for its figures and show them; without a terminal, a line every ten seconds."""
        metrics = self._worker.metrics()
        now, events = time.monotonic(), metrics.get("twintide_events_total{applied}", 0.0)
        rate = max(events - self.events, 0.0) / max(now - self._polled_at, 1e-9)
        self._rate += 0.3 * (rate - self._rate)
        self.events, self._polled_at = events, now
        p50, p99 = self._probe.percentiles_ms(last=1000)
        figures = {
            "events/s": f"{self._rate:,.0f}",
            "events": f"{events:,.0f}",
            "dirty users": f"{metrics.get('twintide_dirty_users', 0.0):,.0f}",
            "freshness p50 / p99": f"{milliseconds(p50)} / {milliseconds(p99)}",
            "vectors written": f"{metrics.get('twintide_upserts_total{written}', 0.0):,.0f}",
        }
        if console.is_terminal:
            table = Table(*figures)
            table.add_row(*figures.values())
            self._live.update(table, refresh=True)
        elif now - self._printed_at >= 10:
            self._printed_at = now
            console.print("  ".join(f"{name} {value}" for name, value in figures.items()))


def milliseconds(value: float) -> str:
    """Return a number of milliseconds for people; a dash where there is none."""
    return "-" if math.isnan(value) else f"{value:.0f} ms"


def one_user(
    artifact: Artifact, replayed: BehaviourLog, before: UserVectors | None, after: UserVectors
) -> None:
    """Print a user's last sessions, and the items nearest to their first and to their last vector."""
    user_id = after.user_id
    heading(f"User {user_id}")
    of_user = replayed.select(replayed.user.values[replayed.user.codes] == user_id)
    starts = starts_session(of_user.time_ms, np.zeros(1, dtype=np.int64), artifact.settings.gap_ms)
    numbers = np.cumsum(starts)
    for place in range(max(0, len(of_user) - EVENTS_SHOWN), len(of_user)):
        at = datetime.fromtimestamp(int(of_user.time_ms[place]) / 1000, UTC)
        item = of_user.item.values[of_user.item.codes[place]]
        category = of_user.category.values[of_user.category.codes[place]]
        behaviour = Behaviour(int(of_user.behaviour[place])).name.lower()
        session = f"session {numbers[place]} of {numbers[-1]}"
        console.print(
            f"  {at:%d %b %H:%M:%S}  {session:<16} {behaviour:<9} item {item} (category {category})"
        )
    for moment, vectors in (("at their first event", before), ("now", after)):
        if vectors is not None:
            console.print(f"  nearest items {moment:<20} {', '.join(nearest_items(artifact, vectors.vec))}")


def nearest_items(artifact: Artifact, vector: Vector) -> list[str]:
    """Return the ids of the items with the highest score for a user vector, the best first."""
    scores = artifact.item_vectors @ vector
    best = np.argsort(-scores)[:ITEMS_SHOWN]
    return [artifact.item_ids[place] for place in best]


def summary(published: int, metrics: dict[str, float], probe: FreshnessProbe) -> None:
    """Print the figures of the run."""
    heading("Summary")
    p50, p99 = probe.percentiles_ms()
    written = metrics.get("twintide_upserts_total{written}", 0.0)
    console.print(f"  published            {published:,} events")
    console.print(f"  vectors written      {written:,.0f} since the worker last started")
    console.print(
        f"  freshness            p50 {milliseconds(p50)}, p99 {milliseconds(p99)} ({probe.samples:,} events; "
        "from sending an event until another process reads the vector)"
    )
