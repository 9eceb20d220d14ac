"""The contestants as processes, watched from outside: a peer with its marks, and Twintide's real worker."""

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from bench.harness.watch import Watch
from bench.peers.job import Job
from local.ports import free_port
from local.processes import ServerProcess
from local.servers import ROOT
from local.worker import WorkerProcess
from models.errors import TwintideError


class Contestant(Protocol):
    """A process that does the job."""

    watch: Watch
    process: ServerProcess

    @property
    def began_at(self) -> float:
        """Return when (monotonic s) its work began, once it has been started."""

    def start(self) -> None:
        """Start the process and return when it is at work (ingest) or has its state back (recovery)."""

    def stop(self) -> None:
        """Ask it to finish and leave."""

    def kill(self) -> None:
        """End it as a crash does."""


class PeerProcess:
    """A peer that marks what it reaches; `start` returns at the mark it is awaited at."""

    def __init__(self, name: str, command: Sequence[str], job: Job, awaited: str) -> None:
        self.watch = Watch()
        self.process = ServerProcess(name, job.directory, free_port())
        self.job = job
        self._command = command
        self._awaited = awaited

    def start(self) -> None:
        """Start the peer and return when it has left the mark."""
        self.job.directory.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, **self.job.environment, "PYTHONPATH": str(ROOT)}
        self.process.start(self._command, self._is_there, environment)

    def stop(self) -> None:
        """Ask the peer to finish and leave (SIGTERM)."""
        self.process.stop()

    def kill(self) -> None:
        """End the peer as a crash does (SIGKILL)."""
        self.process.kill()

    @property
    def began_at(self) -> float:
        """Return when the peer's own code got its first event."""
        return self.marked_at("first_event")

    def marked_at(self, name: str) -> float:
        """Return the time (monotonic s) of a mark the peer has left."""
        at = self.job.marked_at(name)
        if at is None:
            raise TwintideError(f"{self.process.name} never got to {name}; its log is {self.process.log}")
        return at

    def _is_there(self) -> bool:
        self.watch.sample(self.process.pid)
        return self.job.marked_at(self._awaited) is not None


class WatchedWorker(WorkerProcess):
    """Twintide's worker. What it reaches is told by /health, so times are early or late by one poll (50 ms).

    Both are taken to Twintide's disadvantage: a start is the last poll before, an end the first poll after.
    """

    def __init__(self, name: str, directory: Path, environment: Mapping[str, str]) -> None:
        super().__init__(directory, environment, name)
        self.watch = Watch()
        #: Last polls (monotonic s) before it had partitions, and before it was ready; the first when ready.
        self.unassigned_at = self.unready_at = self.ready_at = 0.0

    @property
    def began_at(self) -> float:
        """Return when the worker was last seen not ready."""
        return self.unready_at

    def is_ready(self) -> bool:
        """Return whether /health says ready, and note when it did not yet."""
        asked_at = time.monotonic()
        self.watch.sample(self.process.pid)
        health = self.health()
        if not health.get("partitions"):
            self.unassigned_at = asked_at
        if health.get("status") != "ready":
            self.unready_at = asked_at
            return False
        self.ready_at = time.monotonic()
        return True


def sample(contestant: Contestant) -> None:
    """Take a sample of the contestant's CPU time and memory; TwintideError where it has ended."""
    if contestant.process.pid is None:
        raise TwintideError(f"{contestant.process.name} has ended; its log is {contestant.process.log}")
    contestant.watch.sample(contestant.process.pid)
