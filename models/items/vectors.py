"""Users' vectors of what their last items are, and items' scores, as machine code; letters as in rows.py.

What is computed is said by docs/items.md in equations.
"""

import numpy as np

from models.arrays import Floats, Words
from models.compiled import compiled_in_place, compiled_within
from models.items.rows import LONG_AGO_MS, Items, Room, Users
from models.items.starts import start
from models.items.trained import Trained


@compiled_within
def user_vector(
    items: Items,
    hashes: Words,
    users: Users,
    user: int,
    until: int,
    trained: Trained,
    horizon_ms: int,
    min_readers: int,
    room: Room,
) -> float:
    """Write the vector of the first `until` events of a user into room.user; return their gate.

    hashes (N,) are the items'. A user without events has the cold start's. An item with fewer readers enters
    as trained, or as it began. room.rows, room.weight: which rows it is made of.
    """
    held = users.item.shape[1]
    room.rows[:] = -1
    if until == 0:
        copy(trained.cold_start, room.user)
        return 0.0
    room.short[:] = np.float32(0)
    newest_ms = users.time_ms[user, until - 1]
    reach, last, session_from = until, until - 1, until - 1
    place = max(users.had[user] - held, 0) + last  # of the newest in the user's history
    if trained.is_ratio:
        reach = min(-(-(place + 1) // 10), reach)
    is_same = True
    for back in range(until):
        event = last - back
        if users.time_ms[user, event] < newest_ms - horizon_ms:
            place = back - 1
            break
        if back and users.time_ms[user, event + 1] - users.time_ms[user, event] > trained.gap_ms:
            is_same = False
        if is_same:
            session_from = event
        row = users.item[user, event]
        if back >= reach or items.generation[row] != users.generation[user, event]:
            continue
        weight = trained.by_place[back, int(is_same)] * trained.by_behaviour[users.behaviour[user, event]]
        for newer in range(back):
            if room.rows[newer] == row:
                weight *= np.float32(trained.again)
                break
        room.rows[back], room.weight[back] = row, weight
        source = items.inputs[row]
        if items.readers[row] < min_readers:
            source = first_vectors(items, hashes, row, trained, room)[0]
        for column in range(len(room.short)):
            room.short[column] += weight * source[column]
    room.has_long[0] = place > 0 if trained.is_ratio else place - (last - session_from) % held > 0
    return mix(trained, room.short, room.has_long[0], room.user)


@compiled_in_place
def score_shown(
    items: Items,
    hashes: Words,
    trained: Trained,
    user: Floats,
    min_readers: int,
    room: Room,
    scores: Floats,
) -> None:
    """Write each row's score (n,) for a user's vector (D,), popularity aside, as its published output has it.

    An item with fewer readers is scored as trained, a new one as it began. Minus infinity for a row that is
    free.
    """
    for row in range(len(scores)):
        own, is_live = items.trained[row], items.readers[row] >= min_readers
        if own < 0 and items.counted_ms[row] == LONG_AGO_MS:
            scores[row] = -np.inf
            continue
        source = items.outputs[row]
        if not is_live:
            source = first_vectors(items, hashes, row, trained, room)[1]
        score = np.float32(0)
        for column in range(len(user)):
            score += user[column] * source[column]
        scores[row] = score


@compiled_within
def copy(source: Floats, to: Floats) -> None:
    """Copy an array, which by `to[:] = source` might need another one."""
    for column in range(len(to)):
        to[column] = source[column]


@compiled_within
def mix(trained: Trained, short: Floats, has_long: np.bool_, user: Floats) -> float:
    """Turn short (D,) into user (D,); return the gate."""
    dimension = len(short)
    total = np.float32(trained.gate_shift)
    for column in range(dimension):
        total += trained.gate[column] * short[column]
    if not has_long:
        for column in range(dimension):
            total += trained.gate[dimension + column] * trained.without_long[column]
    gate = np.float32(1) / (np.float32(1) + np.exp(-total))
    scale = np.float32(trained.scale)
    for column in range(dimension):
        user[column] = scale * gate * short[column] + trained.everyone[column]
    if not has_long:
        for column in range(dimension):
            user[column] += scale * (np.float32(1) - gate) * trained.without_long[column]
    user[dimension - 1] = np.float32(0)
    return float(gate)


@compiled_within
def first_vectors(
    items: Items, hashes: Words, row: int, trained: Trained, room: Room
) -> tuple[Floats, Floats]:
    """Return the input and output (D,) of a known item as trained, of a new one as it began."""
    own = items.trained[row]
    if own >= 0:
        return trained.inputs[own], trained.outputs[own]
    start(trained.starts, items.category[row], hashes[row], room.start_in, room.start_out)
    return room.start_in, room.start_out
