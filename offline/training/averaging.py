"""The running average of a model's weights: less noisy than the weights themselves, and it ranks better."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

#: Steps between two updates; steps after which that begins (before, each step updates); and the share of the
#: average that an update keeps. The average then covers about the last 100 steps.
STEPS_BETWEEN, YOUNG_STEPS, KEPT_SHARE = 10, 100, 0.9


class RunningAverage:
    """A copy of a module that has the running average of its weights; the module itself is not changed.

    The average begins with the weights that the module has when this is made.
    """

    def __init__(self, module: nn.Module) -> None:
        self.steps = 0
        self._average = AveragedModel(module, avg_fn=_blend)
        self._average.update_parameters(module)

    @property
    def module(self) -> nn.Module:
        """The copy."""
        return self._average.module

    def step(self, module: nn.Module) -> None:
        """Add the module's weights to the average; call it after each optimiser step."""
        self.steps += 1
        if self.steps <= YOUNG_STEPS or self.steps % STEPS_BETWEEN == 0:
            self._average.update_parameters(module)

    def state(self) -> dict[str, Any]:
        """Return the whole state, for `restore`."""
        updates = int(self._average.n_averaged) - 1  # the first are the weights it began with
        values = [parameter.detach() for parameter in self.module.parameters()]
        return {"steps": self.steps, "updates": updates, "values": values}

    @torch.no_grad()
    def restore(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned."""
        self.steps = state["steps"]
        self._average.n_averaged.fill_(state["updates"] + 1)
        for parameter, value in zip(self.module.parameters(), state["values"], strict=True):
            parameter.copy_(value)


def _blend(average: Tensor, weights: Tensor, updates: Tensor | int) -> Tensor:
    """Return the average after another update; while updates are few, it keeps less of itself."""
    kept = min(KEPT_SHARE, int(updates) / (int(updates) + 9))
    return average.lerp(weights, 1 - kept)
