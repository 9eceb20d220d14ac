"""What may grow in a deployment that runs for long, sampled: memory, file handles, bytes in Redis."""

import threading
import time
from contextlib import suppress

import numpy as np
import psutil
import redis

from bench.harness.timeline import TimedEvents
from local.worker import WorkerProcess
from models.arrays import Doubles
from stream.store.connection import RedisConnection

#: How often (s).
EVERY_S = 2.0
MEMORY, HANDLES, REDIS, FRESHNESS = "worker MB", "worker file handles", "Redis MB", "freshness p99 ms"


class Soaked(threading.Thread):
    """Samples one worker and Redis until `finish`; a worker that was started again is another one."""

    def __init__(self, worker: WorkerProcess, connection: RedisConnection) -> None:
        super().__init__(name="soaked", daemon=True)
        self._worker, self._client = worker, redis.Redis.from_url(connection.url, socket_timeout=1)
        self._found: dict[str, list[tuple[float, float]]] = {MEMORY: [], HANDLES: [], REDIS: []}
        #: When this worker began (epoch s).
        self.began_s = time.time()
        self._pid: int | None = None
        self._is_over = threading.Event()

    def run(self) -> None:
        """Sample."""
        while not self._is_over.wait(EVERY_S):
            self._sample_worker()
            with suppress(redis.RedisError):  # it is down, on purpose: there is no sample of it
                used = self._client.info("memory")["used_memory"]
                self._found[REDIS].append((time.time(), used / 1e6))

    def finish(self) -> None:
        """Stop."""
        self._is_over.set()
        self.join()
        self._client.close()

    def _sample_worker(self) -> None:
        pid, now = self._worker.process.pid, time.time()
        if pid is None:
            return
        if pid != self._pid:
            self._pid, self.began_s = pid, now
            self._found.update({MEMORY: [], HANDLES: []})
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            self._found[MEMORY].append((now, process.memory_info().rss / 1e6))
            self._found[HANDLES].append((now, float(process.num_fds())))

    def samples(self, since_s: float) -> dict[str, tuple[Doubles, Doubles]]:
        """Return of each figure when it was sampled since then (epoch s) and what it was (N,)."""
        found = {}
        for name, samples in self._found.items():
            at_s, values = np.array(samples).T
            found[name] = at_s[at_s >= since_s], values[at_s >= since_s]
        return found


def calm_p99(samples: TimedEvents, calm: list[tuple[float, float]]) -> tuple[Doubles, Doubles]:
    """Return the middle of each calm period (begin, end: epoch s), and p99 of the events sent in it (ms)."""
    at_s, values = [], []
    for begin_s, end_s in calm:
        waited_s = samples[(samples[:, 0] >= begin_s) & (samples[:, 0] < end_s), 1]
        if len(waited_s):
            at_s.append((begin_s + end_s) / 2)
            values.append(float(np.percentile(waited_s, 99)) * 1_000)
    return np.array(at_s), np.array(values)
