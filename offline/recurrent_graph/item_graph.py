"""The graph of items as messages run in it: each node's neighbours, its own loop, and GCN's weights."""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from models.arrays import Floats, Ints


@dataclass(frozen=True, slots=True)
class Neighbourhood:
    """What some nodes take messages from.

    nodes (K,): all nodes in it, ascending; wanted (W,): the places in it of the nodes that were asked for;
    source, target (M,): places in it, of each edge; weight (M,): GCN's.
    """

    nodes: Ints
    wanted: Ints
    source: Ints
    target: Ints
    weight: Floats


@dataclass(frozen=True, slots=True)
class ItemGraph:
    """N nodes; those that send to node n are source[starts[n]:starts[n + 1]], n itself the first of them.

    weight: of each edge, 1 / sqrt(d_n d_m) times how often the two stand together, d being 1 for the own loop
    and the sum of what comes in. Source: Kipf and Welling 2017 (arXiv 1609.02907) eq. 2.
    """

    starts: Ints
    source: Ints
    weight: Floats

    @classmethod
    def of(cls, counts: "sparse.csr_matrix", nodes: int, neighbours: int) -> "ItemGraph":
        """Return the graph of counts (I, I), each item with the neighbours that it stands with most often.

        nodes: how many there are; the last N - I have their own loops alone.
        """
        items = counts.shape[0]
        target = np.repeat(np.arange(items), np.diff(counts.indptr))
        order = np.lexsort((counts.indices, -counts.data, target))
        rank = np.arange(len(order)) - counts.indptr[target].astype(np.int64)
        kept = order[rank < neighbours]
        loops = np.arange(nodes)
        targets = np.concatenate([loops, target[kept]])
        sources = np.concatenate([loops, counts.indices[kept].astype(np.int64)])
        count = np.concatenate([np.ones(nodes), counts.data[kept]])
        degree = np.bincount(targets, count, nodes)
        weight = (count / np.sqrt(degree[targets] * degree[sources])).astype(np.float32)
        by_target = np.argsort(targets, kind="stable")
        starts = np.concatenate(([0], np.cumsum(np.bincount(targets, minlength=nodes))))
        return cls(starts, sources[by_target], weight[by_target])

    def around(self, wanted: Ints) -> Neighbourhood:
        """Return what different nodes (W,) take messages from."""
        counts = self.starts[wanted + 1] - self.starts[wanted]
        begins = np.cumsum(counts) - counts
        edge = np.arange(counts.sum()) + np.repeat(self.starts[wanted] - begins, counts)
        source = self.source[edge]
        nodes = np.unique(source)  # with all that are wanted, by their own loops
        place = np.searchsorted(nodes, wanted)
        return Neighbourhood(
            nodes, place, np.searchsorted(nodes, source), np.repeat(place, counts), self.weight[edge]
        )
