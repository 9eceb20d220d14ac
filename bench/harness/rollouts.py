"""What goes on in a deployment at each moment: a model is rolled out, the trainer computes, or neither."""

import threading
import time

import numpy as np
import psutil
import redis

from bench.harness.report import Result
from bench.harness.timeline import TimedEvents
from local.trainer import TrainerProcess
from models.arrays import Doubles
from models.artifact.stores import Store
from stream.settings import Settings
from stream.store.clients import redis_client
from stream.store.model_registry import ModelRegistry

#: How often it is polled (s), and the share of a core above which the trainer computes.
EVERY_S, COMPUTES = 0.2, 0.3
ROLLED_OUT, LEARNING, CALM = "a model is rolled out", "the trainer learns", "neither"
#: What is told apart.
OTHERWISE = "otherwise"
PARTS = {ROLLED_OUT: [ROLLED_OUT], OTHERWISE: [LEARNING, CALM], LEARNING: [LEARNING], CALM: [CALM]}


class Rollouts(threading.Thread):
    """Polls until `finish`.

    A model is rolled out from its publication until every user is written, it serves, and what no model of
    then needs is gone from Redis.
    """

    def __init__(self, settings: Settings, store: Store, trainer: TrainerProcess | None = None) -> None:
        super().__init__(name="rollouts", daemon=True)
        #: Versions in the order in which they were active, and how many times one began to serve.
        self.active: list[str] = []
        self.served: list[str] = []
        self._seen: list[tuple[float, str]] = []
        self._store, self._trainer = store, trainer
        self._client = redis_client(settings.redis)
        self._registry = ModelRegistry(self._client, settings.key_prefix)
        self._cpu: tuple[int | None, float] = (None, 0.0)
        self._is_over = threading.Event()

    def run(self) -> None:
        """Poll."""
        while not self._is_over.wait(EVERY_S):
            try:
                is_rolled_out = self._is_rolled_out()
            except redis.RedisError:  # it is down, which others count: nothing is known of this moment
                continue
            computes = self._computes()
            name = ROLLED_OUT if is_rolled_out else LEARNING if computes else CALM
            self._seen.append((time.time(), name))

    def finish(self) -> None:
        """Stop."""
        self._is_over.set()
        self.join()
        self._client.close()

    def is_settled(self, publications: int) -> bool:
        """Return whether so many versions have been active one after the other, and none is rolled out."""
        return len(self.active) >= publications and self._seen[-1][1] != ROLLED_OUT

    def freshness(self, samples: TimedEvents) -> dict[str, Result]:
        """Return how fresh events (E, 2) were that were sent while each went on, by its name."""
        at_s, names = np.array([at for at, _ in self._seen]), np.array([name for _, name in self._seen])
        places = np.searchsorted(at_s, samples[:, 0], side="right") - 1
        samples, places = samples[places >= 0], places[places >= 0]
        lasted_s = np.diff(at_s, append=at_s[-1:])
        found = {}
        for title, wanted in PARTS.items():
            is_part = np.isin(names, wanted)
            found[title] = _result(samples[is_part[places], 1], float(lasted_s[is_part].sum()))
        return found

    def _is_rolled_out(self) -> bool:
        active, models = self._store.current().version, self._registry.read()
        if models is None:
            return False
        _append(self.active, active)
        _append(self.served, models.serving.version)
        cleaned_up = self._registry.progress().cleaned_up
        return models.serving.version != active or bool(models.staged) or cleaned_up != models.generation

    def _computes(self) -> bool:
        """Return whether the trainer has computed since this was asked last."""
        pid = self._trainer.process.pid if self._trainer else None
        try:
            used_s = sum(psutil.Process(pid).cpu_times()[:2]) if pid else 0.0
        except psutil.NoSuchProcess:
            pid, used_s = None, 0.0
        (before, before_s), self._cpu = self._cpu, (pid, used_s)
        return before == pid is not None and used_s - before_s > COMPUTES * EVERY_S


def _append(versions: list[str], version: str) -> None:
    if not versions or versions[-1] != version:
        versions.append(version)


def _result(waited_s: Doubles, seconds: float) -> Result:
    """Return the figures of events that waited so long; NaN where there is none."""
    p50, p99 = np.percentile(waited_s, (50, 99)) * 1_000 if len(waited_s) else (np.nan, np.nan)
    return {"seconds": seconds, "events": len(waited_s), "p50_ms": float(p50), "p99_ms": float(p99)}
