"""The running average of a model's weights: less noisy than the weights themselves, and it ranks better."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

#: Steps between two updates, once this many steps are done, and the share of the average that stays in
#: each: it looks back about 100 steps then.
STEPS_BETWEEN, YOUNG_STEPS, KEPT_SHARE = 10, 100, 0.9


class RunningAverage:
    """A copy of a module that has the average of its weights over the steps; the module keeps its own.

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
        """Take the module's weights in; to be called after each of its steps."""
        self.steps += 1
        if self.steps <= YOUNG_STEPS or self.steps % STEPS_BETWEEN == 0:
            self._average.update_parameters(module)

    def state(self) -> dict[str, Any]:
        """Return all there is to know of it, for `restore`."""
        updates = int(self._average.n_averaged) - 1  # the first are the weights it began with
        values = [parameter.detach() for parameter in self.module.parameters()]
        return {"steps": self.steps, "updates": updates, "values": values}

    @torch.no_grad()
    def restore(self, state: dict[str, Any]) -> None:
        """Take up what `state` returned."""
        self.steps = state["steps"]
        self._average.n_averaged.fill_(state["updates"] + 1)
        for parameter, value in zip(self.module.parameters(), state["values"], strict=True):
            parameter.copy_(value)


def _blend(average: Tensor, weights: Tensor, updates: Tensor | int) -> Tensor:
    """Return the average after another update; after few of them it forgets faster."""
    kept = min(KEPT_SHARE, int(updates) / (int(updates) + 9))
    return average.lerp(weights, 1 - kept)
