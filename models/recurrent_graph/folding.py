"""How a user's node takes what the items of the window send: one step of GCN or GAT on the window's graph.

The graph has an edge from each event's item to the user, and the user's own loop; the user's node begins as
the newest event's item. Rows are those of each user's events, and behind them the user's own (E + B rows);
ends (B,) is where each user's rows end.
"""

import numpy as np

from models.arrays import Floats, Ints

#: The slope below 0 of GAT's leaky ReLU.
SLOPE = np.float32(0.2)


def fold_gcn(rows: Floats, ends: Ints, weight: Floats, bias: Floats) -> Floats:
    """Return (B, D) of rows (E + B, D): W^T (sum of events / sqrt(n + 1) + own / (n + 1)) + bias.

    Source: Kipf and Welling 2017 (arXiv 1609.02907) eq. 2, on directed edges: an item's degree is its own
    loop, a user's the n events and the loop.
    """
    degrees = np.diff(ends, prepend=0).astype(np.float32)
    share = np.repeat(1 / np.sqrt(degrees), np.diff(ends, prepend=0))
    share[ends - 1] = 1 / degrees
    begins = ends - np.diff(ends, prepend=0)
    found: Floats = np.add.reduceat(rows * share[:, None], begins, axis=0) @ weight + bias
    return found


def fold_gat(
    rows: Floats, ends: Ints, weight: Floats, bias: Floats, of_source: Floats, of_target: Floats
) -> Floats:
    """Return (B, D): the rows' projections, by how the user's own row looks at each, plus bias.

    rows (E + B, D), weight (D, D); of_source, of_target (H, D / H): a user looks at a row by the softmax,
    over the user's rows, of leaky_relu(of_source . W row + of_target . W own), by head.
    Source: Velickovic et al. 2018 (arXiv 1710.10903) eq. 1 to 5.
    """
    counts = np.diff(ends, prepend=0)
    begins = ends - counts
    projected = (rows @ weight).reshape(len(rows), *of_source.shape)  # (E + B, H, D / H)
    looks = (projected * of_source).sum(axis=-1)  # (E + B, H)
    looks += np.repeat((projected[ends - 1] * of_target).sum(axis=-1), counts, axis=0)
    looks = np.where(looks > 0, looks, SLOPE * looks)
    share = np.exp(looks - np.repeat(np.maximum.reduceat(looks, begins, axis=0), counts, axis=0))
    share /= np.repeat(np.add.reduceat(share, begins, axis=0), counts, axis=0)
    summed = np.add.reduceat(projected * share[..., None], begins, axis=0)
    found: Floats = summed.reshape(len(ends), -1) + bias
    return found
