"""The trainer's gate, asked again and again: steps that learn, and steps whose labels are shuffled."""

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import redis
from tqdm import tqdm

from models.arrays import Flags
from models.artifact.artifact import Artifact, publish
from models.artifact.local_store import LocalStore
from models.log.behaviour_log import BehaviourLog
from offline.continual.step import Step
from offline.training.continuing import Learned
from offline.training.parallel import Processes
from offline.training.settings import TrainSettings
from stream.store.lease import Lease
from stream.store.model_registry import ModelRegistry

#: What keys in Redis begin with, where no model serves.
PREFIX = "bench-gate:"


class ShuffledStep(Step):
    """A step that learns from rows whose items are in any order; what it is judged by is as it was."""

    def _gone_on(
        self,
        before: Learned,
        log: BehaviourLog,
        is_new: Flags,
        settings: TrainSettings,
        processes: Processes,
    ) -> Learned:
        codes = np.random.default_rng(len(log)).permutation(log.item.codes)
        shuffled = replace(log, item=replace(log.item, codes=codes))
        return super()._gone_on(before, shuffled, is_new, settings, processes)


def accepted(
    kind: type[Step],
    befores: Sequence[Artifact],
    log: BehaviourLog,
    ends: Sequence[int],
    client: "redis.Redis",
    min_held_back: int,
) -> list[bool]:
    """Return of each model whether the gate lets it through after a step of this kind.

    ends: of each, up to which row of the log (R,), which is in time order, its step reads.
    """
    found = []
    for before, end in zip(befores, ends, strict=True):
        with tempfile.TemporaryDirectory() as folder:
            store = LocalStore(Path(folder))
            shutil.copytree(before.path, store.where / before.version)
            publish(store.where, before.version)
            found.append(_is_published(kind, log.select(np.arange(end)), store, client, min_held_back))
    return found


def _is_published(
    kind: type[Step],
    log: BehaviourLog,
    store: LocalStore,
    client: "redis.Redis",
    min_held_back: int,
) -> bool:
    lease = Lease(client, PREFIX)
    lease.wait()
    try:
        done = kind(lambda: log, store, ModelRegistry(client, PREFIX), lease, min_held_back)()
        tqdm.write(done.line)
        return done.result == "published"
    finally:
        lease.give_up()
