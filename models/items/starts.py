"""Where a new item begins: as the model's unknown item of its category, in a direction of its own."""

from typing import NamedTuple

import numpy as np
import torch

from models.arrays import Floats, Ints, Words
from models.compiled import compiled_in_place, compiled_within
from models.ids.hashes import mixed
from models.ids.vocabulary_file import FIRST_KNOWN, UNKNOWN
from models.towers.dual_towers import DualTowers
from models.towers.settings import SHORTEST_ENTERING

#: Below it, vectors are not made as long as 1.
_SHORTEST = np.float32(SHORTEST_ENTERING)


class Starts(NamedTuple):
    """What a new item begins with.

    shared (C, D): for each category index, what every new item of it has; own: how far each coordinate lies
    from that, to a side which the item's hash says; is_free: what enters the towers has not the length 1.
    share (D,) of that and difference (C, D) make the output, whose last coordinate is 0.
    """

    shared: Floats
    own: float
    is_free: bool
    share: Floats
    difference: Floats


def starts_of(towers: DualTowers, own: float) -> Starts:
    """Return where new items of a model begin; own: see LiveItemsSettings."""
    items = towers.items
    lengths = torch.linalg.vector_norm(items.item.weight[FIRST_KNOWN:], dim=1)
    difference = items.item_difference.weight[UNKNOWN] + items.category_difference.weight
    return Starts(
        shared=array_of(items.item.weight[UNKNOWN] + items.category.weight),
        own=own * float(lengths.median()) * towers.settings.dimension**-0.5,
        is_free=items.length == "free",
        share=array_of(items.share),
        difference=array_of(difference),
    )


def array_of(tensor: torch.Tensor) -> Floats:
    """Return a copy of its own, in one piece."""
    found: Floats = np.array(tensor.detach().float().cpu().numpy(), np.float32, order="C")
    return found


@compiled_within
def start(starts: Starts, category: int, bits: np.uint64, inputs: Floats, outputs: Floats) -> None:
    """Write the input and output (D,) with which the item of this hash begins."""
    dimension, length, word = len(inputs), np.float32(0), np.uint64(0)
    own = np.float32(starts.own)
    for column in range(dimension):
        if column % 64 == 0:
            word = mixed(bits + np.uint64(column + 1))
        side = own if word & np.uint64(1) else -own
        word >>= np.uint64(1)
        inputs[column] = starts.shared[category, column] + side
        length += inputs[column] * inputs[column]
    scale = np.float32(1) if starts.is_free else np.float32(1) / max(np.sqrt(length), _SHORTEST)
    for column in range(dimension):
        inputs[column] *= scale
        outputs[column] = starts.share[column] * inputs[column] + starts.difference[category, column]
    outputs[dimension - 1] = np.float32(0)


def start_vectors(starts: Starts, categories: Ints, hashes: Words) -> tuple[Floats, Floats]:
    """Return the inputs and outputs (R, D) of items by their category indices and hashes (R,)."""
    inputs = np.empty((len(hashes), len(starts.share)), np.float32)
    outputs = np.empty_like(inputs)
    _start_all(starts, categories, hashes, inputs, outputs)
    return inputs, outputs


@compiled_in_place
def _start_all(starts: Starts, categories: Ints, hashes: Words, inputs: Floats, outputs: Floats) -> None:
    for each in range(len(hashes)):
        start(starts, categories[each], hashes[each], inputs[each], outputs[each])
