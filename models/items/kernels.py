"""One event after the other through the learner of items, as machine code outside the interpreter lock.

Letters: E events of a batch, N rows of items, U rows of users, K events that a user's vector is made of, D
dimension. What is computed is said by docs/items.md in equations.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from models.arrays import Bytes, Doubles, Flags, Floats, Ints, Words
from models.compiled import compiled_with_fast_sums
from models.ids.hashes import mixed
from models.items.pairs import Pairs, is_first
from models.items.slots import FREE, OLDEST, USED, Places, Slots, find, release, take, touch
from models.items.starts import start
from models.items.trained import Trained

Hashes32 = npt.NDArray[np.uint32]

#: The numbers in `Stream.numbers`: events gone through; the newest time (ms); how many events ever counted;
#: events that were learned, that came again, and that counted no more.
STEP, NEWEST_MS, COUNTED, LEARNED, DUPLICATE, REPEATED = 0, 1, 2, 3, 4, 5
#: The numbers in `Stream.losses`: decayed sums of the learner's loss, of that of the vectors as trained, on
#: the same events, and of their weights.
LIVE, FROZEN, WEIGHT = 0, 1, 2
#: Each so-manieth event is scored by the vectors as trained, too; and after so many of these one counts 1/e.
SCORED_EVERY, LOSS_MEMORY = 8, 1_000.0
#: Different readers of an item that are told apart.
MAX_READERS = 5
#: By how much one event moves the stream's clock on at most; rows of items that expire at one event at most.
MAX_JUMP_MS, FREED_PER_EVENT = 600_000, 2
#: What AdaGrad's sums of squares begin with, for the model's items and for new ones.
KNOWN_SQUARES, NEW_SQUARES = 1e-3, 1e-4
#: What is left of them at the row's next step: an item that was learned a thousand times still moves.
MEMORY = np.float32(0.999)
#: The time of what never was.
LONG_AGO_MS = -(2**62)
_HOUR_MS, _TINY = 3_600_000, np.float32(1e-12)


class Batch(NamedTuple):
    """E events in the order of the stream, all (E,) but users: hashes (U',) by the events' user numbers.

    item, event_hash: 64 bits each; category: the index of what the event says.
    """

    users: Words
    user: Ints
    item: Words
    category: Ints
    behaviour: Bytes
    time_ms: Ints
    event_hash: Ints


class Items(NamedTuple):
    """N rows of items.

    inputs, outputs (N, D); input_squares, output_squares (N,) AdaGrad's sums; trained (N,) row of the model's
    tables, -1 for a new item; category (N,) index; counts (N, 2) decayed up to counted_ms (N,); readers (N,)
    how many different users so far, reader_hashes (N, MAX_READERS) theirs; generation (N,) how often the row
    was given to another item; revision (N,) the step that changed it last; last_ms (N,) its newest event.
    """

    inputs: Floats
    outputs: Floats
    input_squares: Floats
    output_squares: Floats
    trained: Ints
    category: Ints
    counts: Doubles
    counted_ms: Ints
    readers: Ints
    reader_hashes: Hashes32
    generation: Places
    revision: Ints
    last_ms: Ints


class Users(NamedTuple):
    """The last K events of U users, oldest first; all (U, K) but had (U,), how many there were in all.

    item, generation: as in `Items`; an item of another generation is gone.
    """

    had: Ints
    item: Places
    generation: Places
    behaviour: Bytes
    time_ms: Ints
    event_hash: Ints


class Stream(NamedTuple):
    """What is known of the stream: numbers, losses (see above), and the last M events that counted.

    recent (M, 2): row and generation of their items, where negatives are drawn from.
    """

    numbers: Ints
    losses: Doubles
    recent: Places


class Rules(NamedTuple):
    """What does not change: see LiveItemsSettings and LearnerSettings."""

    half_lives_ms: tuple[int, int]
    rate: float
    pull: float
    learned_until_ms: int
    max_items: int
    max_users: int
    item_ttl_ms: int
    start_squares: float
    horizon_ms: int
    seed: int


class Room(NamedTuple):
    """What a step computes in: user, short, gradient (D,), and start_in, start_out (D,) of a new item; weight
    (K,), rows (K,) of a user's last items, -1 for one that is gone; drawn (1 + negatives,) rows of target and
    negatives, scores likewise; has_long (1,): whether the long tower has something to read.
    """

    user: Floats
    short: Floats
    gradient: Floats
    start_in: Floats
    start_out: Floats
    weight: Floats
    rows: Ints
    drawn: Ints
    scores: Floats
    has_long: Flags


@compiled_with_fast_sums
def learn_events(
    batch: Batch,
    items: Items,
    item_slots: Slots,
    users: Users,
    user_slots: Slots,
    pairs: Pairs,
    stream: Stream,
    trained: Trained,
    rules: Rules,
    room: Room,
    new_rows: Ints,
    freed: Ints,
) -> int:
    """Go through the events; return how many rows of items were freed.

    new_rows (E,): the row that an event's item was given at it, -1 where it had one. freed (., 2): the event
    at which, before anything else, a row was freed, and the row; FREED_PER_EVENT + 1 times E is room enough.
    """
    numbers, free = stream.numbers, 0
    for event in range(len(batch.user)):
        new_rows[event] = -1
        numbers[STEP] += 1
        time_ms = _clocked(numbers, batch.time_ms[event])
        free = _expire(items, item_slots, numbers[NEWEST_MS] - rules.item_ttl_ms, event, freed, free)
        user_bits, bits = batch.users[batch.user[event]], batch.item[event]
        user = _user_row(users, user_slots, user_bits, rules.max_users)
        place = _place_of(users, user, batch.time_ms[event], batch.event_hash[event])
        if place < 0:
            numbers[DUPLICATE] += 1
            continue
        row = find(item_slots, bits)
        if row < 0:
            if item_slots.ends[FREE] < 0 and item_slots.ends[USED] >= rules.max_items:
                freed[free, 0], freed[free, 1] = event, item_slots.ends[OLDEST]
                free += 1
            row = take(item_slots, bits, rules.max_items)
            new_rows[event] = row
            _start(items, row, batch.category[event], bits, trained, np.float32(rules.start_squares))
        elif items.trained[row] < 0:
            touch(item_slots, row)
        items.last_ms[row] = max(items.last_ms[row], time_ms)
        if is_first(pairs, user_bits, bits, time_ms // _HOUR_MS):
            _count(items, row, time_ms, np.uint32(user_bits >> np.uint64(32)), rules.half_lives_ms)
            is_new = rules.rate > 0 and batch.time_ms[event] > rules.learned_until_ms
            if is_new and (place > 0 or users.had[user] == 0):
                hashes = item_slots.hashes
                _learn(items, hashes, users, user, place, row, time_ms, stream, trained, rules, room)
                numbers[LEARNED] += 1
            at = numbers[COUNTED] % len(stream.recent)
            stream.recent[at, 0], stream.recent[at, 1] = row, items.generation[row]
            numbers[COUNTED] += 1
            items.revision[row] = numbers[STEP]
        else:
            numbers[REPEATED] += 1
        _insert(users, user, place, row, items.generation[row], batch.time_ms[event], batch, event)
    return free


@compiled_with_fast_sums
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
        room.user[:] = trained.cold_start
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
            source = _first(items, hashes, row, trained, room)[0]
        for column in range(len(room.short)):
            room.short[column] += weight * source[column]
    room.has_long[0] = place > 0 if trained.is_ratio else place - (last - session_from) % held > 0
    return _mix(trained, room)


@compiled_with_fast_sums
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
            source = _first(items, hashes, row, trained, room)[1]
        score = np.float32(0)
        for column in range(len(user)):
            score += user[column] * source[column]
        scores[row] = score


@compiled_with_fast_sums
def _mix(trained: Trained, room: Room) -> float:
    """Turn room.short into room.user; return the gate."""
    dimension, has_long = len(room.short), room.has_long[0]
    total = np.float32(trained.gate_shift)
    for column in range(dimension):
        total += trained.gate[column] * room.short[column]
    if not has_long:
        for column in range(dimension):
            total += trained.gate[dimension + column] * trained.without_long[column]
    gate = np.float32(1) / (np.float32(1) + np.exp(-total))
    scale = np.float32(trained.scale)
    for column in range(dimension):
        room.user[column] = scale * gate * room.short[column] + trained.everyone[column]
    if not has_long:
        for column in range(dimension):
            room.user[column] += scale * (np.float32(1) - gate) * trained.without_long[column]
    room.user[dimension - 1] = np.float32(0)
    return float(gate)


@compiled_with_fast_sums
def _learn(
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
    gate = user_vector(items, hashes, users, user, place, trained, rules.horizon_ms, 0, room)
    count = _draw(items, stream, row, rules.seed, room)
    loss = _softmax_loss(items, room, count)
    if step % SCORED_EVERY == 0:
        _compare(items, hashes, trained, stream.losses, loss, room, count)
        # The comparison has the vectors as trained in the room.
        gate = user_vector(items, hashes, users, user, place, trained, rules.horizon_ms, 0, room)
        _softmax_loss(items, room, count)
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
        items.output_squares[drawn] = MEMORY * items.output_squares[drawn] + slope * slope * length
        change = rate * slope / np.sqrt(items.output_squares[drawn] + _TINY)
        output = items.outputs[drawn]
        for column in range(dimension):
            before = output[column]
            room.gradient[column] += slope * before
            output[column] = before - change * room.user[column]
        items.revision[drawn] = step
    _learn_inputs(items, np.float32(trained.scale) * np.float32(gate), rate, step, room)
    if items.trained[row] >= 0:
        _pull(items, trained, row, np.float32(rules.pull))


@compiled_with_fast_sums
def _learn_inputs(items: Items, scale: np.float32, rate: np.float32, step: int, room: Room) -> None:
    dimension = len(room.user)
    room.gradient[dimension - 1] = np.float32(0)
    length = np.float32(0)
    for column in range(dimension):
        length += room.gradient[column] * room.gradient[column]
    length /= np.float32(dimension)
    for back in range(len(room.rows)):
        row = room.rows[back]
        if row < 0:
            continue
        slope = scale * room.weight[back]
        items.input_squares[row] = MEMORY * items.input_squares[row] + slope * slope * length
        change = rate * slope / np.sqrt(items.input_squares[row] + _TINY)
        for column in range(dimension):
            items.inputs[row, column] -= change * room.gradient[column]
        items.revision[row] = step


@compiled_with_fast_sums
def _pull(items: Items, trained: Trained, row: int, pull: np.float32) -> None:
    """Take a known item a part of the way back to its vectors as trained."""
    own = items.trained[row]
    for column in range(items.inputs.shape[1]):
        items.inputs[row, column] += pull * (trained.inputs[own, column] - items.inputs[row, column])
        items.outputs[row, column] += pull * (trained.outputs[own, column] - items.outputs[row, column])


@compiled_with_fast_sums
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


@compiled_with_fast_sums
def _softmax_loss(items: Items, room: Room, count: int) -> float:
    """Return the loss of the target, and write the slope of each drawn item's score into room.scores."""
    for each in range(count):
        score, drawn = np.float32(0), room.drawn[each]
        for column in range(len(room.user)):
            score += room.user[column] * items.outputs[drawn, column]
        room.scores[each] = score
    return _softmax(room.scores, count)


@compiled_with_fast_sums
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


@compiled_with_fast_sums
def _compare(
    items: Items, hashes: Words, trained: Trained, losses: Doubles, loss: float, room: Room, count: int
) -> None:
    """Note the loss beside that of the vectors as trained, on the same event."""
    dimension = len(room.user)
    has_events = room.rows.max() >= 0
    if has_events:
        room.short[:] = np.float32(0)
        for back in range(len(room.rows)):
            row = room.rows[back]
            if row >= 0:
                source = _first(items, hashes, row, trained, room)[0]
                for column in range(dimension):
                    room.short[column] += room.weight[back] * source[column]
        _mix(trained, room)
    for each in range(count):
        source = _first(items, hashes, room.drawn[each], trained, room)[1]
        score = np.float32(0)
        for column in range(dimension):
            score += room.user[column] * source[column]
        room.scores[each] = score
    frozen, keep = _softmax(room.scores, count), 1 - SCORED_EVERY / LOSS_MEMORY
    losses[LIVE] = losses[LIVE] * keep + loss
    losses[FROZEN] = losses[FROZEN] * keep + frozen
    losses[WEIGHT] = losses[WEIGHT] * keep + 1


@compiled_with_fast_sums
def _clocked(numbers: Ints, time_ms: int) -> int:
    """Move the stream's clock on to an event's time (ms), and return the lesser of the two.

    One event moves it by MAX_JUMP_MS at most: whose clock is ahead does not make all others late.
    """
    if numbers[STEP] == 1:
        numbers[NEWEST_MS] = time_ms
    elif time_ms > numbers[NEWEST_MS]:
        numbers[NEWEST_MS] += min(time_ms - numbers[NEWEST_MS], MAX_JUMP_MS)
    return int(min(time_ms, numbers[NEWEST_MS]))


@compiled_with_fast_sums
def _expire(items: Items, slots: Slots, before_ms: int, event: int, freed: Ints, free: int) -> int:
    """Free new items without an event since a time; return how many rows were freed so far."""
    for _ in range(FREED_PER_EVENT):
        oldest = slots.ends[OLDEST]
        if oldest < 0 or items.last_ms[oldest] >= before_ms:
            return free
        release(slots, oldest)
        items.generation[oldest] += 1
        items.readers[oldest], items.counted_ms[oldest] = 0, LONG_AGO_MS
        freed[free, 0], freed[free, 1] = event, oldest
        free += 1
    return free


@compiled_with_fast_sums
def _user_row(users: Users, slots: Slots, bits: np.uint64, limit: int) -> int:
    row = find(slots, bits)
    if row < 0:
        row = take(slots, bits, limit)
        users.had[row] = 0
    else:
        touch(slots, row)
    return row


@compiled_with_fast_sums
def _place_of(users: Users, user: int, time_ms: int, event_hash: int) -> int:
    """Return how many of a user's last events come before a new one; -1 where it is one of them."""
    held = min(users.had[user], users.item.shape[1])
    place = held
    for event in range(held - 1, -1, -1):
        if users.event_hash[user, event] == event_hash:
            return -1
        if users.time_ms[user, event] > time_ms:
            place = event
    return int(place)


@compiled_with_fast_sums
def _insert(
    users: Users, user: int, place: int, row: int, generation: int, time_ms: int, batch: Batch, event: int
) -> None:
    """Put an event at its place; where there is no room, the oldest gives way."""
    most = users.item.shape[1]
    held = min(users.had[user], most)
    users.had[user] += 1
    if held == most:
        if place == 0:
            return
        place -= 1
        for at in range(place):
            _move(users, user, at + 1, at)
    else:
        for at in range(held, place, -1):
            _move(users, user, at - 1, at)
    users.item[user, place], users.generation[user, place] = row, generation
    users.behaviour[user, place] = batch.behaviour[event]
    users.time_ms[user, place] = time_ms
    users.event_hash[user, place] = batch.event_hash[event]


@compiled_with_fast_sums
def _move(users: Users, user: int, source: int, to: int) -> None:
    users.item[user, to], users.generation[user, to] = (
        users.item[user, source],
        users.generation[user, source],
    )
    users.behaviour[user, to] = users.behaviour[user, source]
    users.time_ms[user, to] = users.time_ms[user, source]
    users.event_hash[user, to] = users.event_hash[user, source]


@compiled_with_fast_sums
def _first(items: Items, hashes: Words, row: int, trained: Trained, room: Room) -> tuple[Floats, Floats]:
    """Return the input and output (D,) of a known item as trained, of a new one as it began."""
    own = items.trained[row]
    if own >= 0:
        return trained.inputs[own], trained.outputs[own]
    start(trained.starts, items.category[row], hashes[row], room.start_in, room.start_out)
    return room.start_in, room.start_out


@compiled_with_fast_sums
def _start(
    items: Items, row: int, category: int, bits: np.uint64, trained: Trained, squares: np.float32
) -> None:
    start(trained.starts, category, bits, items.inputs[row], items.outputs[row])
    items.input_squares[row] = items.output_squares[row] = squares
    items.trained[row], items.category[row] = -1, category
    items.counts[row, 0] = items.counts[row, 1] = 0
    items.counted_ms[row] = items.last_ms[row] = LONG_AGO_MS
    items.readers[row] = 0
    items.generation[row] += 1


@compiled_with_fast_sums
def _count(items: Items, row: int, time_ms: int, user: np.uint32, half_lives_ms: tuple[int, int]) -> None:
    """Count an event for what is left of its weight, and its user where they are new to the item."""
    ahead_ms = time_ms - items.counted_ms[row]
    for number, half_life_ms in enumerate(half_lives_ms):
        if ahead_ms >= 0:
            items.counts[row, number] = items.counts[row, number] * np.exp2(-ahead_ms / half_life_ms) + 1
        else:
            items.counts[row, number] += np.exp2(ahead_ms / half_life_ms)
    items.counted_ms[row] = max(items.counted_ms[row], time_ms)
    known = items.readers[row]
    for reader in range(known):
        if items.reader_hashes[row, reader] == user:
            return
    if known < MAX_READERS:
        items.reader_hashes[row, known] = user
        items.readers[row] += 1
