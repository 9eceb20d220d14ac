"""Events -> the towers' vectors on a GPU: the towers themselves, recorded once per shape as CUDA graphs.

A graph is one launch where the towers are some hundred, each of which costs a CPU more than it costs the GPU.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.arrays import Floats, Ints
from models.length_buckets import NARROWEST, buckets
from models.towers.dual_towers import DualTowers
from models.towers.features import Tokens, columns_of, forget_before, pad_columns
from models.towers.histories import EventFeatures, Part
from models.windows.histories import Histories

#: A graph has room for so many users, and events of the whole pass, or 4, 16, 64 ... times as many.
FEWEST_USERS, FEWEST_EVENTS, STEP = 16, 1 << 12, 4
#: A tower: tokens of B users -> vectors (B, D).
TowerFunction = Callable[[Tokens], Tensor]
#: Places of a padded tensor at most, so that what the towers make on their way fits a small GPU.
MOST_PLACES = 1 << 17


@dataclass(frozen=True, slots=True)
class _Graph:
    """A recorded tower: what it reads, columns (5, E) and firsts and counts (2, B), and makes, (B, D)."""

    graph: torch.cuda.CUDAGraph
    columns: Tensor
    part: Tensor
    vectors: Tensor


class GraphedTowers:
    """Dual towers of any depth on a GPU; in bfloat16 their vectors differ in the third digit.

    Live items enter as they were trained: their table grows, and a graph's shapes are fixed.
    """

    reads_live = False

    def __init__(self, towers: DualTowers, bfloat16: bool = False) -> None:
        self._towers = copy.deepcopy(towers).eval().cuda()
        self._bfloat16 = bfloat16
        self._graphs: dict[tuple[TowerFunction, int, int, int], _Graph] = {}
        #: One memory for all graphs: each one's vectors are fetched before the next one runs.
        self._pool = torch.cuda.graph_pool_handle()

    def long_of(self, histories: Histories, derived: EventFeatures, part: Part) -> Floats:
        """Return the long vectors (B, D) of these parts, on the CPU."""
        return self._vectors(self._long, columns_of(histories, derived), part)

    def short_of(self, histories: Histories, derived: EventFeatures, part: Part) -> Floats:
        """Return the short vectors (B, D) of these parts, on the CPU."""
        return self._vectors(self._towers.short_of, columns_of(histories, derived), part)

    def _long(self, tokens: Tokens) -> Tensor:
        return self._towers.long_of(forget_before(tokens))

    @torch.inference_mode()
    def _vectors(self, tower: TowerFunction, columns: tuple[Tensor, ...], part: Part) -> Floats:
        sent = _sent(columns)
        found = [
            (users, self._run(tower, sent, part.take(users), width)) for users, width in _batches(part.counts)
        ]
        torch.cuda.current_stream().synchronize()  # the device has all its work before anyone waits
        vectors = np.empty((len(part.counts), self._towers.settings.dimension), np.float32)
        for users, some in found:
            vectors[users] = some.numpy()
        return vectors

    def _run(self, tower: TowerFunction, columns: Tensor, part: Part, width: int) -> Tensor:
        """Return what will be the vectors (B, D) of these parts once the device is done, in pinned memory."""
        users = len(part.counts)
        room = torch.zeros(2, rounded_up(users, FEWEST_USERS, STEP), dtype=torch.int64, pin_memory=True)
        room[0, :users], room[1, :users] = map(torch.from_numpy, part)
        shape = tower, columns.shape[1], room.shape[1], width
        if shape not in self._graphs:
            self._graphs[shape] = self._record(tower, columns, room.cuda(), width)
        recorded = self._graphs[shape]
        recorded.columns.copy_(columns)
        recorded.part.copy_(room, non_blocking=True)
        recorded.graph.replay()
        vectors = torch.empty(users, self._towers.settings.dimension, pin_memory=True)
        return vectors.copy_(recorded.vectors[:users], non_blocking=True)

    def _record(self, tower: TowerFunction, columns: Tensor, part: Tensor, width: int) -> _Graph:
        columns = columns.clone()

        def run() -> Tensor:
            tokens = pad_columns(columns, part[0], part[1], width)
            # What autocast keeps would be of the first run.
            with torch.autocast("cuda", torch.bfloat16, enabled=self._bfloat16, cache_enabled=False):
                return tower(tokens).float()

        own = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        own.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(own):
            run()  # libraries prepare themselves in their first run, which cannot be recorded
        torch.cuda.current_stream().wait_stream(own)
        graph = torch.cuda.CUDAGraph()
        # Another thread may load a model meanwhile.
        with torch.cuda.graph(graph, self._pool, own, capture_error_mode="thread_local"):
            vectors = run()
        return _Graph(graph, columns, part, vectors)


def _sent(columns: tuple[Tensor, ...]) -> Tensor:
    """Return the columns (5, E) on the GPU, soon, with room behind them."""
    events = len(columns[0])
    room = torch.zeros(
        len(columns), rounded_up(events, FEWEST_EVENTS, STEP), dtype=torch.int32, pin_memory=True
    )
    for own, column in zip(room, columns, strict=True):
        own[:events] = column
    return room.cuda(non_blocking=True)


def _batches(counts: Ints) -> Iterator[tuple[Ints, int]]:
    """Yield users (indices) of about equal counts (B,), and a width that none is longer than."""
    for users in buckets(counts):
        width = rounded_up(int(counts[users].max()), NARROWEST, 2)
        at_once = max(1, MOST_PLACES // width)
        for begin in range(0, len(users), at_once):
            yield users[begin : begin + at_once], width


def rounded_up(count: int, fewest: int, step: int) -> int:
    """Return the least of fewest, fewest * step, fewest * step**2 ... that is not under `count`."""
    while fewest < count:
        fewest *= step
    return fewest
