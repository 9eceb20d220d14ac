"""Faults in a seeded random order, while events flow: what the chaos test does to workers and servers."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

from local.items import ItemsProcess
from local.kafka import KafkaServer
from local.proof import wait_until_committed
from local.redis import RedisServer
from local.registry import RegistryServer
from local.worker import WorkerProcess, worker_environment
from models.errors import TwintideError, UnreachableError
from stream.kafka.group import committed_offsets
from stream.kafka.topics import (
    add_partitions,
    admin_client,
    answered,
    changelog_topic,
    end_offsets,
    partition_counts,
)
from stream.repartition import RepartitionRefusedError, repartition
from stream.settings import Settings
from stream.store.lease import LEASE_S

#: Workers that take part at most; the first two run from the beginning.
WORKERS = 3

#: The group takes a member that is silent for 10 s for dead (`make_app`); a paused one is so longer.
PAUSE_S = 14.0

#: By then others have gone on with what a frozen worker held (s), also where they must restore it first.
TAKEN_OVER_S = 120.0

#: A broker that cannot write any more has ended by then (s).
DISK_FULL_S = 60.0

#: The topic is given so many partitions at most, one by one.
PARTITIONS = 7
#: Producers have asked by then which partitions there are (s).
NOTICED_S = 4.0

#: By then the group has no member any more, and all is read that was sent before (s).
QUIET_S = 180.0

#: Events published a second.
EVENTS_PER_S = 400


class Traffic(threading.Thread):
    """Publishes events at an even pace until `finish`; a few come twice, a few late, a few are unreadable."""

    def __init__(self, publish: Callable[[int], None], flush: Callable[[], None]) -> None:
        super().__init__(name="traffic", daemon=True)
        self.published = 0
        self._publish = publish
        self._flush = flush
        self._is_over = threading.Event()

    def run(self) -> None:
        started = time.monotonic()
        while not self._is_over.wait(0.05):
            due = int((time.monotonic() - started) * EVENTS_PER_S)
            while self.published < due:
                self._publish(self.published)
                self.published += 1
        self._flush()

    def finish(self) -> int:
        """Stop and return how many records Kafka has taken."""
        self._is_over.set()
        self.join(timeout=120)
        assert not self.is_alive(), "the producer could not deliver what it sent"
        return self.published


class Chaos:
    """Servers of its own, up to three workers, and every fault that can befall them."""

    def __init__(
        self,
        settings: Settings,
        servers: tuple[KafkaServer, RedisServer, RegistryServer],
        directory: Path,
        app: str,
    ) -> None:
        self.settings = settings
        self.kafka, self.redis, self.registry = servers
        environment = worker_environment(settings)
        self.workers = [
            WorkerProcess(directory / f"worker{number}", environment, f"worker{number}", app)
            for number in range(WORKERS)
        ]
        #: Those that are to run; `rest` starts them again whenever they do not.
        self.wanted = self.workers[:2]
        #: The item learner, where one takes part, and has been started.
        self.learner: ItemsProcess | None = None
        self.done: Counter[str] = Counter()
        #: Workers that ended by themselves: allowed, as a supervisor starts them again, but worth knowing.
        self.gave_up = 0
        self.random = random.Random()

    def run(self, faults: Sequence[str], seed: int) -> None:
        """Commit the faults one by one; `join` and `leave` become each other where there is no room."""
        self.random.seed(seed)
        for fault in faults:
            self.rest(self.random.uniform(1.0, 4.0))
            name = self._possible(fault)
            print(f"{time.strftime('%H:%M:%S')} {name}", flush=True)
            getattr(self, name)()
            self.done[name] += 1

    def rest(self, seconds: float) -> None:
        """Let events flow, and start again what ended, as a supervisor would."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for worker in (*self.wanted, *([self.learner] if self.learner else [])):
                if worker.process.pid is None:
                    self.gave_up += 1
                    print(f"{time.strftime('%H:%M:%S')} {worker.process.name} had ended", flush=True)
                    worker.start(wait=False)
            time.sleep(0.2)

    def clean_up(self, timeout_s: float = 120.0) -> None:
        """Return when every worker that is to run is ready, and all that was published is committed."""
        deadline = time.monotonic() + timeout_s
        while not all(worker.is_ready() for worker in self.wanted):
            assert time.monotonic() < deadline, [worker.health() for worker in self.wanted]
            self.rest(0.5)
        while True:  # a worker may still give up, which a supervisor would see
            try:
                return wait_until_committed(self.settings, timeout_s=1.0)
            except TwintideError:
                if time.monotonic() > deadline + timeout_s:
                    raise
            self.rest(0.5)

    def end(self) -> None:
        """End everything."""
        for worker in (*self.workers, *([self.learner] if self.learner else [])):
            worker.kill()
        self.kafka.kill()
        self.redis.kill()
        self.registry.kill()

    def _possible(self, fault: str) -> str:
        if fault == "join" and len(self.wanted) == WORKERS:
            return "leave"
        if fault == "leave" and len(self.wanted) == 1:
            return "join"
        if fault == "widen" and self._partitions() >= PARTITIONS:
            return "pause"
        return fault

    # -- the faults

    def kill(self) -> None:
        """End a worker as a crash does, and start it again now or when the group has given it up."""
        worker = self.random.choice(self.wanted)
        worker.kill()
        time.sleep(self.random.choice((0.0, 12.0)))
        worker.start(wait=False)

    def kill_learner(self) -> None:
        """End the item learner as a crash does, and start it again."""
        assert self.learner is not None
        self.learner.kill()
        self.learner.start(wait=False)

    def freeze_learner(self) -> None:
        """Freeze the item learner until its lease is over, then let it go on where it was."""
        assert self.learner is not None
        self.learner.pause()
        self.rest(LEASE_S + 2.0)
        self.learner.resume()

    def join(self) -> None:
        """Start one more worker."""
        worker = self.random.choice([each for each in self.workers if each not in self.wanted])
        worker.start(wait=False)
        self.wanted = [*self.wanted, worker]

    def leave(self) -> None:
        """Ask a worker to leave."""
        worker = self.random.choice(self.wanted)
        self.wanted = [each for each in self.wanted if each is not worker]
        worker.stop()

    def pause(self) -> None:
        """Freeze a worker until others have its partitions, then let it go on where it was."""
        worker = self.random.choice(self.wanted)
        worker.pause()
        time.sleep(PAUSE_S)
        worker.resume()

    def wake(self) -> None:
        """Freeze a worker, let it wake when others have gone on with all that it held: Kafka refuses it."""
        while len(self.wanted) < 2:
            self.join()
        deadline = time.monotonic() + TAKEN_OVER_S
        while not all(worker.health().get("partitions") for worker in self.wanted):
            assert time.monotonic() < deadline, [worker.health() for worker in self.wanted]
            self.rest(0.5)
        worker = self.random.choice(self.wanted)
        before = self._committed()
        worker.pause()
        deadline = time.monotonic() + TAKEN_OVER_S
        while any(offset <= before.get(number, 0) for number, offset in self._committed().items()):
            assert time.monotonic() < deadline, "nobody went on with what the frozen worker held"
            self.rest(1.0)
        worker.resume()

    def _committed(self) -> dict[int, int]:
        settings = self.settings
        found = committed_offsets(settings.kafka, settings.app_id, settings.topic)
        return {number: found.get(number, 0) for number in range(self._partitions())}

    def _partitions(self) -> int:
        return partition_counts(self.settings.kafka)[self.settings.topic]

    def broker(self) -> None:
        """End the broker as a crash does and start it again."""
        self.kafka.kill()
        time.sleep(self.random.uniform(0.0, 5.0))
        self.kafka.start()

    def full_disk(self) -> None:
        """Let the broker's files grow no further, which is a full disk to it; start it again with room."""
        broker = psutil.Process(self.kafka.process.pid)
        broker.rlimit(psutil.RLIMIT_FSIZE, (1, psutil.RLIM_INFINITY))
        deadline = time.monotonic() + DISK_FULL_S
        while self.kafka.process.pid is not None:
            assert time.monotonic() < deadline, "the broker goes on without a disk"
            self.rest(0.5)
        self.kafka.start()

    def expire(self) -> None:
        """Keep all workers away until the group's offsets have expired: everything is read again."""
        group, client = self.settings.app_id, admin_client(self.settings.kafka)
        self._while_away(
            lambda: answered(lambda: client.delete_consumer_groups([group])[group], f"group {group}")
        )

    def widen(self) -> None:
        """Give the topic a partition more, and have the windows follow."""
        add_partitions(self.settings.kafka, self.settings.topic, self._partitions() + 1)
        self.rest(NOTICED_S)
        self._while_away(lambda: repartition(self.settings))

    def _while_away(self, do: Callable[[], object]) -> None:
        """Do this while no worker runs, as soon as they have read enough for it."""
        deadline = time.monotonic() + QUIET_S
        while True:
            for worker in self.wanted:
                worker.stop()
            try:
                do()
                break
            except (RepartitionRefusedError, UnreachableError) as refused:
                if time.monotonic() > deadline:
                    raise
                print(f"{time.strftime('%H:%M:%S')} not yet: {refused}", flush=True)
            finally:
                for worker in self.wanted:
                    worker.start(wait=False)
            self._read_on(deadline)

    def _read_on(self, deadline: float) -> None:
        """Return when the workers have committed all that was there when this began."""
        wanted = end_offsets(self.settings.kafka, self.settings.topic)
        held = partition_counts(self.settings.kafka)[changelog_topic(self.settings.app_id)]
        while time.monotonic() < deadline:
            committed = self._committed()
            if all(committed[number] >= wanted[number] for number in range(held)):
                return
            self.rest(0.5)

    def redis_outage(self) -> None:
        """Take Redis away for some seconds."""
        self.redis.kill()
        time.sleep(self.random.uniform(2.0, 6.0))
        self.redis.start()

    def registry_outage(self) -> None:
        """Take the schema registry away for some seconds, in which a worker may start."""
        self.registry.kill()
        self.rest(self.random.uniform(2.0, 15.0))
        self.registry.start()
