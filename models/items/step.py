"""One step of sampled softmax, as machine code; letters as in rows.py, equations in docs/items.md."""

import numpy as np

from models.arrays import Doubles, Floats, Words
from models.compiled import compiled_within
from models.ids.hashes import mixed
from models.items.rows import (
    COUNTED,
    FROZEN,
    LIVE,
    NEWEST_MS,
    STEP,
    WEIGHT,
    Items,
    Room,
    Rules,
    Stream,
    Users,
)
from models.items.trained import Trained
from models.items.vectors import copy, first_vectors, mix, user_vector

#: Each so-manieth event is scored by the vectors as trained, too; and after so many of these one counts 1/e.
SCORED_EVERY, LOSS_MEMORY = 8, 1_000.0
#: What is left of AdaGrad's sums at the row's next step: an item learned a thousand times still moves.
MEMORY = np.float32(0.999)
_TINY = np.float32(1e-12)


@compiled_within
def learn_step(
    items: Items,
    hashes: Words,
    users: Users,
    user: int,
    place: int,
    row: int,
    time_ms: int,
    stream: Stream,
    trained: Trained,
    rules: Rules,
    room: Room,
) -> None:
    """Take one step of sampled softmax: the item of `row` came after the user's first `place` events."""
    step = stream.numbers[STEP]
    count = _draw(items, stream, row, rules.seed, room)
    gate = user_vector(items, hashes, users, user, place, trained, rules.horizon_ms, 0, room)
    loss = _softmax_loss(items, room, count)
    if step % SCORED_EVERY == 0:
        _compare(items, hashes, trained, stream.losses, loss, room, count)
    age = max(stream.numbers[NEWEST_MS] - time_ms, 0)
    weight = np.float32(np.exp2(-age / rules.half_lives_ms[1]))
    rate = np.float32(rules.rate) * weight
    dimension = len(room.user)
    length = np.float32(0)
    for column in range(dimension):
        length += room.user[column] * room.user[column]
        room.gradient[column] = np.float32(0)
    length /= np.float32(dimension)
    for each in range(count):
        drawn, slope = room.drawn[each], room.scores[each]
        change = np.float32(0)
        if _moves(items, drawn, rules):
            items.output_squares[drawn] = MEMORY * items.output_squares[drawn] + slope * slope * length
            change = rate * slope / np.sqrt(items.output_squares[drawn] + _TINY)
            items.revision[drawn] = step
        output = items.outputs[drawn]
        for column in range(dimension):
            before = output[column]
            room.gradient[column] += slope * before
            output[column] = before - change * room.user[column]
    _learn_inputs(items, np.float32(trained.scale) * np.float32(gate), rate, rules, step, room)
    if items.trained[row] >= 0 and rules.moves_known:
        _pull(items, trained, row, np.float32(rules.pull))


@compiled_within
def _moves(items: Items, row: int, rules: Rules) -> bool:
    return bool(rules.moves_known or items.trained[row] < 0)


@compiled_within
def _learn_inputs(
    items: Items, scale: np.float32, rate: np.float32, rules: Rules, step: int, room: Room
) -> None:
    dimension = len(room.user)
    room.gradient[dimension - 1] = np.float32(0)
    length = np.float32(0)
    for column in range(dimension):
        length += room.gradient[column] * room.gradient[column]
    length /= np.float32(dimension)
    for back in range(len(room.rows)):
        row = room.rows[back]
        if row < 0 or not _moves(items, row, rules):
            continue
        slope = scale * room.weight[back]
        items.input_squares[row] = MEMORY * items.input_squares[row] + slope * slope * length
        change = rate * slope / np.sqrt(items.input_squares[row] + _TINY)
        for column in range(dimension):
            items.inputs[row, column] -= change * room.gradient[column]
        items.revision[row] = step


@compiled_within
def _pull(items: Items, trained: Trained, row: int, pull: np.float32) -> None:
    """Take a known item a part of the way back to its vectors as trained."""
    own = items.trained[row]
    for column in range(items.inputs.shape[1]):
        items.inputs[row, column] += pull * (trained.inputs[own, column] - items.inputs[row, column])
        items.outputs[row, column] += pull * (trained.outputs[own, column] - items.outputs[row, column])


@compiled_within
def _draw(items: Items, stream: Stream, row: int, seed: int, room: Room) -> int:
    """Write target and negatives into room.drawn; return how many they are.

    Negatives are items of the events that counted last; what is gone, or is the target, is left out. Which
    ones follows from the seed and from how many events counted: clicks that do not count change nothing.
    """
    room.drawn[0], count = row, 1
    held = min(stream.numbers[COUNTED], len(stream.recent))
    if not held:
        return count
    start = mixed(np.uint64(seed) ^ mixed(np.uint64(stream.numbers[COUNTED])))
    for each in range(1, len(room.drawn)):
        draw = mixed(start + np.uint64(each)) >> np.uint64(32)
        at = np.int64((draw * np.uint64(held)) >> np.uint64(32))
        drawn = stream.recent[at, 0]
        if drawn != row and items.generation[drawn] == stream.recent[at, 1]:
            room.drawn[count] = drawn
            count += 1
    return count


@compiled_within
def _softmax_loss(items: Items, room: Room, count: int) -> float:
    """Return the loss of the target, and write the slope of each drawn item's score into room.scores."""
    for each in range(count):
        score, drawn = np.float32(0), room.drawn[each]
        for column in range(len(room.user)):
            score += room.user[column] * items.outputs[drawn, column]
        room.scores[each] = score
    return _softmax(room.scores, count)


@compiled_within
def _softmax(scores: Floats, count: int) -> float:
    highest, total, target = scores[0], np.float32(0), scores[0]
    for each in range(1, count):
        highest = max(highest, scores[each])
    for each in range(count):
        scores[each] = np.exp(scores[each] - highest)
        total += scores[each]
    for each in range(count):
        scores[each] /= total
    scores[0] -= np.float32(1)
    return float(np.log(total) + highest - target)


@compiled_within
def _compare(
    items: Items, hashes: Words, trained: Trained, losses: Doubles, loss: float, room: Room, count: int
) -> None:
    """Note the loss beside that of the vectors as trained, on the same event."""
    dimension, user, short, scores = (
        len(room.user),
        room.trained_user,
        room.trained_short,
        room.trained_scores,
    )
    copy(room.user, user)
    short[:] = np.float32(0)
    has_rows = False  # else it is the cold start's
    for back in range(len(room.rows)):
        row = room.rows[back]
        if row >= 0:
            has_rows = True
            source = first_vectors(items, hashes, row, trained, room)[0]
            for column in range(dimension):
                short[column] += room.weight[back] * source[column]
    if has_rows:
        mix(trained, short, room.has_long[0], user)
    for each in range(count):
        source = first_vectors(items, hashes, room.drawn[each], trained, room)[1]
        score = np.float32(0)
        for column in range(dimension):
            score += user[column] * source[column]
        scores[each] = score
    frozen, keep = _softmax(scores, count), 1 - SCORED_EVERY / LOSS_MEMORY
    losses[LIVE] = losses[LIVE] * keep + loss
    losses[FROZEN] = losses[FROZEN] * keep + frozen
    losses[WEIGHT] = losses[WEIGHT] * keep + 1
