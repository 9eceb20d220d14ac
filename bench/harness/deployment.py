"""A deployment under even load: two workers that have read a log's beginning, and the rest as traffic."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np

from bench.harness.stage import Stage
from bench.harness.topics import fill
from bench.harness.traffic import SteadyTraffic
from local.proof import wait_until_committed
from local.worker import WorkerProcess, worker_environment
from models.log.behaviour_log import BehaviourLog
from stream.settings import Settings

WORKERS = 2


@dataclass(frozen=True, slots=True)
class Load:
    """The rows that come, as many of them as are there before, and how many a second come then."""

    log: BehaviourLog
    history: int
    rate: int

    def before(self) -> BehaviourLog:
        """Return the rows that are there before."""
        return self.log.select(np.arange(self.history))


@dataclass(frozen=True, slots=True)
class Deployment:
    """What runs."""

    here: Stage
    settings: Settings
    load: Load
    workers: list[WorkerProcess]

    def traffic(self) -> SteadyTraffic:
        """Return what sends the rows after the history, not yet started."""
        load = self.load
        return SteadyTraffic(self.here.kafka, self.settings.topic, load.log, load.rate, load.history)

    def sent(self, events: int) -> BehaviourLog:
        """Return the rows that are on the topic once so many events of the traffic are."""
        return self.load.log.select(np.arange(self.load.history + events))

    def known_users(self) -> list[str]:
        """Return the users who had vectors before the traffic began."""
        return sorted(set(self.load.before().user.strings().tolist()))


@contextmanager
def deployed(here: Stage, load: Load) -> Iterator[Deployment]:
    """Give a deployment whose workers have read what was there before, and end it.

    A model must be published in the stage's store.
    """
    settings = here.settings("twintide", f"{here.prefix}-events")
    fill(here.kafka, settings.topic, here.partitions, load.before())
    with ExitStack() as stack:
        workers = []
        for number in range(WORKERS):
            name = f"worker{number}"
            workers.append(WorkerProcess(here.directory / name, worker_environment(settings), name))
            stack.callback(workers[-1].kill)
            workers[-1].start()
        wait_until_committed(settings, timeout_s=120)
        yield Deployment(here, settings, load, workers)
