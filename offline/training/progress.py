"""The state of a training after an epoch: all that the next epochs depend on, saved and restored."""

import copy
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch.amp.grad_scaler import GradScaler
from torch.optim.lr_scheduler import LambdaLR

from models.errors import ArtifactError
from models.towers.dual_towers import DualTowers
from offline.ranking.metrics import Ranking
from offline.training.averaging import RunningAverage


@dataclass(frozen=True, slots=True)
class Epoch:
    """What one pass over the training slice gave."""

    number: int
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
        self.epochs: list[Epoch] = []
        self.best_number = 0
        self.best_weights: dict[str, torch.Tensor] = towers.state_dict()

    @property
    def averaged_towers(self) -> DualTowers:
        """The towers with averaged weights: these are validated and kept."""
        return cast(DualTowers, self.average.module)

    @property
    def best_ndcg(self) -> float:
        """The validation NDCG of the best epoch, -1 before the first."""
        return self.epochs[self.best_number - 1].validation.ndcg if self.best_number else -1.0

    def add(self, epoch: Epoch) -> None:
        """Add a finished epoch; if it is the best so far, keep a copy of the averaged weights."""
        is_best = epoch.validation.ndcg > self.best_ndcg
        self.epochs.append(epoch)
        if is_best:
            self.best_number = epoch.number
            self.best_weights = copy.deepcopy(self.averaged_towers.state_dict())

    def save(self, path: Path) -> None:
        """Write the state to a file, whole or not at all."""
        state = {
            "towers": self.towers.state_dict(),
            "best_weights": self.best_weights,
            "average": self.average.state(),
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "schedules": [schedule.state_dict() for schedule in self.schedules],
            "scaler": self.scaler.state_dict(),
            "best_number": self.best_number,
            "epochs": json.dumps([asdict(epoch) for epoch in self.epochs]),
        }
        part = path.with_name(path.name + ".part")
        torch.save(state, part)
        part.replace(path)

    def restore(self, path: Path) -> None:
        """Restore what `save` wrote, without unpickling code; ArtifactError where it is damaged."""
        try:
            state: dict[str, Any] = torch.load(
                path, weights_only=True, map_location=self.towers.everyone.device
            )
            self._restore(state)
        except Exception as error:  # the unpickler fails in whatever way the damage leads it to
            reason = " ".join(str(error).split())[:200]
            raise ArtifactError(
                f"{path}, where an interrupted training stood, cannot be used ({reason}): remove it"
            ) from error

    def _restore(self, state: dict[str, Any]) -> None:
        self.towers.load_state_dict(state["towers"])
        self.best_weights, self.best_number = state["best_weights"], state["best_number"]
        self.average.restore(state["average"])
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        for schedule, saved in zip(self.schedules, state["schedules"], strict=True):
            schedule.load_state_dict(saved)
        self.scaler.load_state_dict(state["scaler"])
        self.epochs = [
            Epoch(each["number"], each["loss"], Ranking(**each["validation"]))
            for each in json.loads(state["epochs"])
        ]
