"""The processes that train one model together: what each takes, and how their gradients become one.

`torchrun` starts them and says, in the environment, who is who. All have the same weights and draw the same
batches; each takes its parts of a batch, and the sum of all gradients moves every copy alike.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor

from models.errors import SettingsError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Processes:
    """This process, number `rank` of `count`, and the device it trains on; only the first writes and prints.

    Every process must call the methods that involve all processes, in the same order.
    """

    device: torch.device
    rank: int = 0
    count: int = 1
    #: Whether it is the first of those on its machine.
    is_first_here: bool = True

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes and prints."""
        return self.rank == 0

    def own(self, parts: Sequence[T]) -> Sequence[T]:
        """Return this process' parts."""
        return parts[self.rank :: self.count]

    def wait(self) -> None:
        """Return when all processes have called it."""
        if self.count > 1:
            dist.barrier()

    def from_first(self, make: Callable[[], T]) -> T:
        """Return what the first process makes, to all: two that read the stream would not read the same."""
        if self.count == 1:
            return make()
        made: list[T | None] = [make() if self.is_first else None]
        dist.broadcast_object_list(made)
        return cast(T, made[0])

    def after_first(self, make: Callable[[], T]) -> T:
        """Return what each process makes, the first of a machine before the others."""
        if self.is_first_here:
            made = make()
            self.wait()
            return made
        self.wait()
        return make()

    def total(self, value: Tensor) -> Tensor:
        """Return the sum of a tensor over all processes."""
        if self.count > 1:
            value = value.clone()
            dist.all_reduce(value)
        return value

    def together(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the arrays of all processes, one behind the other."""
        if self.count == 1:
            return values
        found: list[Any] = [None] * self.count
        dist.all_gather_object(found, values)
        return np.concatenate(found)

    def add_gradients(self, dense: Sequence[Tensor], sparse: Sequence[Tensor] = ()) -> None:
        """Give each of these parameters the sum of its gradients over all processes.

        A parameter without a gradient in any process keeps none.
        """
        if self.count == 1:
            return
        self._add_dense(dense)
        for parameter in sparse:
            self._add_sparse(parameter)

    def _add_dense(self, parameters: Sequence[Tensor]) -> None:
        has_gradient = torch.tensor([float(each.grad is not None) for each in parameters])
        gradients = [torch.zeros_like(each) if each.grad is None else each.grad for each in parameters]
        flat = torch.cat([has_gradient.to(self.device), *(each.flatten() for each in gradients)])
        dist.all_reduce(flat)
        sizes = [len(parameters), *(each.numel() for each in parameters)]
        counts, *sums = flat.split(sizes)  # type: ignore[no-untyped-call]
        for parameter, count, found in zip(parameters, counts.tolist(), sums, strict=True):
            parameter.grad = found.view_as(parameter) if count else None

    def _add_sparse(self, parameter: Tensor) -> None:
        """Gather the touched rows: there are few of them, and not the same ones in each process."""
        own = None if parameter.grad is None else parameter.grad.coalesce()
        index = torch.zeros(0, dtype=torch.int64, device=self.device) if own is None else own.indices()[0]
        values = parameter.new_zeros(0, parameter.shape[1]) if own is None else own.values()
        counts = [torch.zeros(1, dtype=torch.int64, device=self.device) for _ in range(self.count)]
        dist.all_gather(counts, torch.tensor([len(index)], device=self.device))
        lengths = [int(count) for count in counts]
        if any(lengths):
            rows = torch.cat(self._gather(index, lengths))[None]
            parameter.grad = torch.sparse_coo_tensor(
                rows, torch.cat(self._gather(values, lengths)), parameter.shape
            )

    def _gather(self, own: Tensor, lengths: Sequence[int]) -> list[Tensor]:
        """Return the tensors (L, ...) of all processes, whose lengths differ."""
        padded = own.new_zeros(max(lengths), *own.shape[1:])
        padded[: len(own)] = own
        found = [torch.empty_like(padded) for _ in lengths]
        dist.all_gather(found, padded)
        return [each[:length] for each, length in zip(found, lengths, strict=True)]


@contextmanager
def joined(device: str) -> Iterator[Processes]:
    """Join the other processes that torchrun started, if it did, each with a GPU of its own where asked.

    Source of the names: https://docs.pytorch.org/docs/stable/elastic/run.html#environment-variables
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield one_process(device)
        return
    own = device_of(device, int(os.environ["LOCAL_RANK"]))
    if own.type == "cuda":
        torch.cuda.set_device(own)
    dist.init_process_group("cpu:gloo,cuda:nccl" if own.type == "cuda" else "gloo")
    try:
        is_first_here = os.environ["LOCAL_RANK"] == "0"
        yield Processes(own, dist.get_rank(), dist.get_world_size(), is_first_here)
    finally:
        dist.destroy_process_group()


def one_process(device: str) -> Processes:
    """Return the only process of a training without torchrun."""
    return Processes(device_of(device, 0))


def device_of(name: str, number: int) -> torch.device:
    """Return the device that "cpu", "cuda" or "auto" means for process `number` of a machine.

    Raises SettingsError where there is no such GPU.
    """
    count = torch.cuda.device_count() if name != "cpu" else 0
    if name == "cpu" or (name == "auto" and not count):
        return torch.device("cpu")
    if number >= count:
        raise SettingsError(
            f"device is {name!r}, and process {number} finds {count} GPUs: start fewer, or use cpu"
        )
    return torch.device("cuda", number)
