"""A GRU and an LSTM over users' events, as machine code outside the interpreter lock.

Letters: B users, E events of all of them, D dimension. Users come longest first, so that at each step those
who still read are the first of a block, and one product serves them all; nothing is padded.
"""

import numpy as np

from models.arrays import Floats, Ints
from models.compiled import compiled_with_fast_sums
from models.tanh import tanh

#: Users at a time.
BLOCK = 128


@compiled_with_fast_sums
def gru(entering: Floats, of_state: Floats, bias: Floats, firsts: Ints, counts: Ints) -> Floats:
    """Return the last states (B, D) of a GRU; 0 of a user without events.

    entering (E, 3 D): the products of events, their bias included, for reset, update and new; of_state
    (D, 3 D), bias (3 D,) those of the state; firsts, counts (B,): a user's events, longest first.
    Source: Cho et al. 2014 (arXiv 1406.1078), with the reset gate behind the product, as PyTorch has it.
    """
    half, one = np.float32(0.5), np.float32(1)
    users, dimension = len(counts), of_state.shape[0]
    states = np.zeros((users, dimension), np.float32)
    for begin in range(0, users, BLOCK):
        reading = min(BLOCK, users - begin)
        known = np.zeros((reading, 3 * dimension), np.float32)
        for step in range(counts[begin]):
            while counts[begin + reading - 1] <= step:
                reading -= 1
            np.dot(states[begin : begin + reading], of_state, known[:reading])
            for row in range(reading):
                event = firsts[begin + row] + step
                for at in range(dimension):
                    reset = entering[event, at] + known[row, at] + bias[at]
                    place = dimension + at
                    update = entering[event, place] + known[row, place] + bias[place]
                    place += dimension
                    reset = half + half * tanh(half * reset)
                    update = half + half * tanh(half * update)
                    new = tanh(entering[event, place] + reset * (known[row, place] + bias[place]))
                    states[begin + row, at] = (one - update) * new + update * states[begin + row, at]
    return states


@compiled_with_fast_sums
def lstm(entering: Floats, of_state: Floats, bias: Floats, firsts: Ints, counts: Ints) -> Floats:
    """Return the last states (B, D) of an LSTM; 0 of a user without events.

    As `gru`, with (., 4 D) for input, forget, cell and output.
    Source: Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000.
    """
    half = np.float32(0.5)
    users, dimension = len(counts), of_state.shape[0]
    states = np.zeros((users, dimension), np.float32)
    for begin in range(0, users, BLOCK):
        reading = min(BLOCK, users - begin)
        known = np.zeros((reading, 4 * dimension), np.float32)
        cells = np.zeros((reading, dimension), np.float32)
        for step in range(counts[begin]):
            while counts[begin + reading - 1] <= step:
                reading -= 1
            np.dot(states[begin : begin + reading], of_state, known[:reading])
            for row in range(reading):
                event = firsts[begin + row] + step
                for at in range(dimension):
                    enter = entering[event, at] + known[row, at] + bias[at]
                    place = dimension + at
                    forget = entering[event, place] + known[row, place] + bias[place]
                    place += dimension
                    new = entering[event, place] + known[row, place] + bias[place]
                    place += dimension
                    out = entering[event, place] + known[row, place] + bias[place]
                    cell = (half + half * tanh(half * forget)) * cells[row, at]
                    cell += (half + half * tanh(half * enter)) * tanh(new)
                    cells[row, at] = cell
                    states[begin + row, at] = (half + half * tanh(half * out)) * tanh(cell)
    return states
