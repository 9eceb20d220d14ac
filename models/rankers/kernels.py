"""What costs most of a candidate, as machine code outside the interpreter lock: Dice, activation, a GRU.

Letters: C candidates, T events, D dimension, H units. The activation has candidates along the last axis, so
that one instruction computes several, whatever H is; what is made in between stays in a core's own cache.
"""

from typing import NamedTuple

import numpy as np

from models.arrays import Floats
from models.compiled import compiled_with_fast_sums
from models.tanh import tanh

#: Events at a time of the activation unit, and candidates at a time of the GRU.
UNIT_BLOCK, GRU_BLOCK = 2, 128


class DiceForm(NamedTuple):
    """Dice that has learned: x (even + tilt tanh(scale x + shift)) of each unit, all (H,)."""

    even: Floats
    tilt: Floats
    scale: Floats
    shift: Floats


class UnitForm(NamedTuple):
    """The activation unit: of_query and of_product (H, D), then Dice, then last (H,) and a bias (1,)."""

    of_query: Floats
    of_product: Floats
    dice: DiceForm
    last: Floats
    bias: Floats


@compiled_with_fast_sums
def dice(values: Floats, form: DiceForm) -> None:
    """Activate values (C, H) in place."""
    for row in range(len(values)):
        for at in range(values.shape[1]):
            value = values[row, at]
            values[row, at] = value * (
                form.even[at] + form.tilt[at] * tanh(value * form.scale[at] + form.shift[at])
            )


@compiled_with_fast_sums
def activation(queries: Floats, keys: Floats, from_key: Floats, form: UnitForm) -> Floats:
    """Return how well keys (T, D) fit queries (D, C): (T, C); from_key (T, H): the layer's product with keys.

    of_query q + of_product (q * k) is one product with q, by a matrix that is made of each key.
    """
    units, dimension = form.of_query.shape
    found = np.full((len(keys), queries.shape[1]), form.bias[0], np.float32)
    layer = np.zeros((UNIT_BLOCK * units, dimension), np.float32)
    made = np.zeros((UNIT_BLOCK * units, queries.shape[1]), np.float32)
    for begin in range(0, len(keys), UNIT_BLOCK):
        block = min(UNIT_BLOCK, len(keys) - begin)
        for row in range(block * units):
            key, unit = begin + row // units, row % units
            for at in range(dimension):
                layer[row, at] = form.of_query[unit, at] + form.of_product[unit, at] * keys[key, at]
        np.dot(layer, queries, made)
        for row in range(block * units):
            key, unit = begin + row // units, row % units
            _add_unit(found[key], made[row], from_key[key, unit], unit, form)
    return found


@compiled_with_fast_sums
def _add_unit(found: Floats, made: Floats, from_key: np.float32, unit: int, form: UnitForm) -> None:
    """Add to found (C,) what one unit says, by its products with candidates (C,) and one key."""
    scale, shift = form.dice.scale[unit], form.dice.shift[unit]
    even, tilt = form.last[unit] * form.dice.even[unit], form.last[unit] * form.dice.tilt[unit]
    for at in range(len(found)):
        value = made[at] + from_key
        found[at] += value * (even + tilt * tanh(value * scale + shift))


@compiled_with_fast_sums
def evolve(entering: Floats, bias: Floats, of_state: Floats, weights: Floats, evolution: int) -> Floats:
    """Return the last state (C, D) of DIEN's second GRU; see `dien.evolve`, of one user without padding.

    entering (T, 3 D); of_state (D, 3 D); weights (C, T); evolution: 0 AUGRU, 1 AIGRU, 2 AGRU.
    """
    half, one = np.float32(0.5), np.float32(1)
    candidates, dimension = len(weights), of_state.shape[0]
    found = np.zeros((candidates, dimension), np.float32)
    for begin in range(0, candidates, GRU_BLOCK):
        block = min(GRU_BLOCK, candidates - begin)
        state = np.zeros((block, dimension), np.float32)
        known = np.zeros((block, 3 * dimension), np.float32)
        for event in range(len(entering)):
            np.dot(state, of_state, known)
            for row in range(block):
                weight = weights[begin + row, event]
                scale = weight if evolution == 1 else one
                of_update = weight if evolution == 0 else one
                for at in range(dimension):
                    update = entering[event, at] * scale + bias[at] + known[row, at]
                    place = dimension + at
                    reset = entering[event, place] * scale + bias[place] + known[row, place]
                    place += dimension
                    update = (half + half * tanh(half * update)) * of_update
                    update = weight if evolution == 2 else update
                    reset = half + half * tanh(half * reset)
                    new = tanh(entering[event, place] * scale + bias[place] + reset * known[row, place])
                    state[row, at] += update * (new - state[row, at])
        found[begin : begin + block] = state
    return found
