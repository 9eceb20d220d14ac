"""How weights are moved, whatever the model: gradients added up, mixed precision, clipping, the rate."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.optim.lr_scheduler import LambdaLR

#: Gradients of all but tables of which a step touches few rows are scaled down to this norm.
MAX_GRADIENT_NORM = 5.0


class Stepper:
    """Optimisers that move together; `backward` as often as a step has batches, then `clip`, then `move`."""

    def __init__(
        self,
        optimisers: Sequence[torch.optim.Optimizer],
        rate: Callable[[int], float],
        device: torch.device,
        precision: str,
    ) -> None:
        """optimisers: the first of layers, others of tables; rate: a step's share of the learning rate."""
        self.optimisers = list(optimisers)
        self.schedules = [LambdaLR(each, rate) for each in self.optimisers]
        self.scaler = GradScaler(device.type, enabled=precision == "float16")
        self._device, self._precision = device, precision

    @property
    def parameters(self) -> list[list[nn.Parameter]]:
        """What each optimiser moves."""
        return [optimiser.param_groups[0]["params"] for optimiser in self.optimisers]

    def computing(self) -> torch.autocast:
        """Return the context in which a model computes; losses stay float32."""
        return autocast(self._device.type, self._precision)

    def backward(self, loss: Tensor) -> None:
        """Add a loss' gradients to those of the step."""
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    def clip(self) -> None:
        """Make the gradients those of the loss again, and no longer than MAX_GRADIENT_NORM."""
        for optimiser in self.optimisers:
            self.scaler.unscale_(optimiser)
        torch.nn.utils.clip_grad_norm_(self.parameters[0], MAX_GRADIENT_NORM)

    def move(self) -> None:
        """Move the weights, unless float16 was too small for a gradient, and clear the gradients."""
        for optimiser, schedule in zip(self.optimisers, self.schedules, strict=True):
            self.scaler.step(optimiser)
            schedule.step()
            optimiser.zero_grad(set_to_none=True)
        self.scaler.update()

    def learning_rate(self) -> float:
        """Return the learning rate of the next step."""
        return float(self.schedules[0].get_last_lr()[0])


def autocast(device: str, precision: str) -> torch.autocast:
    """Return the context in which a model computes in a precision, by its name in torch."""
    return torch.autocast(device, getattr(torch, precision), enabled=precision != "float32")
