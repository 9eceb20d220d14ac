"""The running average of a model's weights: less noisy than the weights themselves, and it ranks better."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

#: Steps between two updates, once this many steps are done, and the share of the average that stays in
#: each: it looks back about 100 steps then.
STEPS_BETWEEN, YOUNG_STEPS, KEPT = 10, 100, 0.9


class Average:
    """Follows the parameters of a module."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.steps = self.updates = 0
        self.values = [parameter.detach().clone() for parameter in module.parameters()]

    def step(self) -> None:
        """Take the module's weights in after each step; young averages forget faster."""
        self.steps += 1
        if self.steps > YOUNG_STEPS and self.steps % STEPS_BETWEEN:
            return
        self.updates += 1
        kept = min(KEPT, self.updates / (self.updates + 9))
        with torch.no_grad():
            for value, parameter in zip(self.values, self.module.parameters(), strict=True):
                value.lerp_(parameter, 1 - kept)

    def state(self) -> dict[str, Any]:
        """Return all there is to know of it, for `restore`."""
        return {"steps": self.steps, "updates": self.updates, "values": self.values}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up what `state` returned."""
        self.steps, self.updates, self.values = state["steps"], state["updates"], state["values"]

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Let the module have the averaged weights for a while."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for place, parameter in enumerate(self.module.parameters()):
            self.values[place], parameter.data = parameter.data, self.values[place]
