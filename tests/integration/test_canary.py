"""`python -m stream.canary` beside a real worker: it passes where all is well, and leaves nothing behind."""

import subprocess
import sys
import time
from bisect import bisect_left

import numpy as np
import pytest

from local.servers import ROOT
from local.worker import WorkerProcess, worker_environment
from models.arrays import Doubles
from models.events import CANARY_PREFIX, Event
from offline.stream_log.log import read_stream_log
from stream.events.decoder import make_decoder
from stream.kafka.topic_reader import read_all
from stream.kafka.topics import changelog_topic
from stream.metrics import FRESHNESS_BUCKETS_S
from stream.settings import Settings
from tests.integration.shop import Shop

pytestmark = pytest.mark.integration

#: On a busy machine whoever looks from outside may be late now and then, but not every time.
ROUNDS = 5
#: A machine may be slow; that events are lost, and p99 is judged, other tests show.
PATIENT = ("--p99-ms", "100000", "--lost-after-s", "100")


def start(settings: Settings, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "stream.canary", *arguments],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), **worker_environment(settings)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    """Return exit status, stdout and the last line of stderr."""
    output, errors = process.communicate(timeout=120)
    assert "Traceback" not in errors
    return process.returncode, output, (errors.strip().splitlines() or [""])[-1]


def is_canarys(event: Event) -> bool:
    return str(event.user_id).startswith(CANARY_PREFIX)


def buckets_agree(worker: WorkerProcess, settings: Settings) -> bool:
    """Return whether the canary's p99 is in the bucket of the worker's histogram, or in one beside it."""
    before = buckets(worker)
    _, line, _ = finish(start(settings, "--for", "4s", "--every-s", "0.2", *PATIENT))
    told = buckets(worker) - before  # of the canary's events alone: no others say when they were sent
    assert told[-1] >= 10
    outside_s = float(line.partition(" p99_ms=")[2].split()[0]) / 1000
    ours = bisect_left(FRESHNESS_BUCKETS_S, outside_s)
    # The canary's is between two of its events, which one slow event of a hundred may set far apart.
    place = 0.99 * (told[-1] - 1)
    low, high = np.searchsorted(told, [np.floor(place) + 1, np.ceil(place) + 1])
    assert ours >= low - 1, "it flatters"
    return bool(ours <= high + 1)


def buckets(worker: WorkerProcess) -> Doubles:
    """Return how many events the worker's histogram has up to each of its bounds."""
    found, name = worker.metrics(), "twintide_event_to_vector_seconds_bucket"
    bounds = [*map(float, FRESHNESS_BUCKETS_S), float("inf")]
    by_bound = {float(key[len(name) + 1 : -1]): value for key, value in found.items() if key.startswith(name)}
    return np.array([by_bound.get(bound, 0) for bound in bounds])


def test_it_passes_beside_a_worker_and_fails_without_one(
    shop: Shop, worker: WorkerProcess, settings: Settings
) -> None:
    worker.start()
    shop.send(400)
    process = start(settings, "--for", "6s", "--every-s", "0.4", *PATIENT)
    pattern = f"{settings.key_prefix}{CANARY_PREFIX}*"
    while not shop.client.keys(pattern):
        assert process.poll() is None
        time.sleep(0.02)
    learned = read_stream_log(settings).user.values
    assert len(learned) == 40, "it is learned from, too"
    status, line, error = finish(process)
    assert (status, "partitions=4" in line, "lost=0 refused=0" in line) == (0, True, True), error
    assert line.endswith("OK\n")
    assert not shop.client.keys(pattern)
    changelog = read_all(settings.kafka, changelog_topic(settings.app_id))
    values = {record.key(): record.value() for record in changelog}
    assert [value for key, value in values.items() if key.startswith(CANARY_PREFIX.encode())] == [None] * 4
    records = read_all(settings.kafka, settings.topic)
    events = [each for each in make_decoder("", "").events([each.value() for each in records]) if each]
    newest_ms = max(event.time for event in events if not is_canarys(event))
    times_ms = [event.time for event in events if is_canarys(event)]
    assert len(times_ms) >= 20
    assert newest_ms <= min(times_ms) <= max(times_ms) < newest_ms + 60_000, "users would be swept"
    assert any(buckets_agree(worker, settings) for _ in range(ROUNDS)), "it is not what the worker says"
    worker.kill()
    status, line, error = finish(start(settings, "--for", "1s", "--lost-after-s", "2", "--name", "left"))
    assert (status, line.endswith("FAILED\n")) == (1, True)
    assert "were never readable, of partitions 0, 1, 2, 3; no event was ever readable" in error
    assert f"not forgotten in time, until a worker runs: {CANARY_PREFIX}left-" in error
