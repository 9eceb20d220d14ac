"""The state of a training after an epoch: all that the next epochs depend on, saved and restored."""

import copy
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch.amp.grad_scaler import GradScaler
from torch.optim.lr_scheduler import LambdaLR

from models.errors import ArtifactError
from models.towers.dual_towers import DualTowers
from offline.ranking.metrics import Ranking
from offline.training.averaging import RunningAverage

#: What learns in an epoch: the direct path alone, or the Transformers too.
Learns = Literal["direct", "everything"]


@dataclass(frozen=True, slots=True)
class Epoch:
    """What one pass over the training slice gave; `learns` says what learned: the direct path, or all."""

    number: int
    learns: Learns
    loss: float
    validation: Ranking


class TrainingProgress:
    """The weights, the optimisers and the best epoch so far; random generators are seeded anew each epoch."""

    def __init__(
        self,
        towers: DualTowers,
        optimisers: list[torch.optim.Optimizer],
        schedules: list[LambdaLR],
        scaler: GradScaler,
    ) -> None:
        self.towers, self.optimisers, self.schedules, self.scaler = towers, optimisers, schedules, scaler
        self.average = RunningAverage(towers)
        #: How often the stretches were learned from to come to these weights.
        self.passes = 0
        self.epochs: list[Epoch] = []
        self.best_place = -1
        self.best_weights: dict[str, torch.Tensor] = towers.state_dict()

    @property
    def averaged_towers(self) -> DualTowers:
        """The towers with averaged weights: these are validated and kept."""
        return cast(DualTowers, self.average.module)

    @property
    def best_ndcg(self) -> float:
        """The validation NDCG of the best epoch, -1 before the first."""
        return self.epochs[self.best_place].validation.ndcg if self.epochs else -1.0

    def add(self, epoch: Epoch) -> None:
        """Add a finished epoch; if it is the best so far, keep a copy of the averaged weights."""
        is_best = epoch.validation.ndcg > self.best_ndcg
        self.epochs.append(epoch)
        if is_best:
            self.best_place = len(self.epochs) - 1
            self.best_weights = copy.deepcopy(self.averaged_towers.state_dict())

    def save(self, path: Path) -> None:
        """Write the state to a file, whole or not at all; ArtifactError where there is no room for it."""
        state = {
            "towers": self.towers.state_dict(),
            "best_weights": self.best_weights,
            "average": self.average.state(),
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "schedules": [schedule.state_dict() for schedule in self.schedules],
            "scaler": self.scaler.state_dict(),
            "passes": self.passes,
            "best_place": self.best_place,
            "epochs": json.dumps([asdict(epoch) for epoch in self.epochs]),
        }
        part = path.with_name(path.name + ".part")
        try:
            torch.save(state, part)
        except RuntimeError as error:  # torch's own words for any error of the file system
            part.unlink(missing_ok=True)
            reason = str(error).splitlines()[0][:200]
            raise ArtifactError(
                f"{path}, where the training stands, cannot be written ({reason}): make room"
            ) from error
        part.replace(path)

    def restore(self, path: Path) -> None:
        """Restore what `save` wrote, without unpickling code; ArtifactError where it is damaged."""
        self._read(path, self._restore)

    def restore_weights(self, path: Path) -> None:
        """Restore only what learns from there on, not the epochs and which is the best."""
        self._read(path, self._restore_weights)

    def _read(self, path: Path, use: Callable[[dict[str, Any]], None]) -> None:
        try:
            use(torch.load(path, weights_only=True, map_location=self.towers.everyone.device))
        except Exception as error:  # the unpickler fails in whatever way the damage leads it to
            reason = " ".join(str(error).split())[:200]
            raise ArtifactError(
                f"{path}, where an interrupted training stood, cannot be used ({reason}): remove it"
            ) from error

    def _restore(self, state: dict[str, Any]) -> None:
        self._restore_weights(state)
        self.best_weights, self.best_place = state["best_weights"], state["best_place"]
        self.epochs = [
            Epoch(each["number"], each["learns"], each["loss"], Ranking(**each["validation"]))
            for each in json.loads(state["epochs"])
        ]

    def _restore_weights(self, state: dict[str, Any]) -> None:
        self.passes = state["passes"]
        self.towers.load_state_dict(state["towers"])
        self.average.restore(state["average"])
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        for schedule, saved in zip(self.schedules, state["schedules"], strict=True):
            schedule.load_state_dict(saved)
        self.scaler.load_state_dict(state["scaler"])
