"""One event after the other through the learner of items, as machine code outside the interpreter lock.

Letters as in rows.py; what is computed is said by docs/items.md in equations.
"""

import numpy as np

from models.arrays import Ints
from models.compiled import compiled_in_place, compiled_within
from models.items.ahead import fetch_negatives, look_ahead
from models.items.pairs import Pairs, is_first
from models.items.rows import (
    AHEAD,
    COUNTED,
    DUPLICATE,
    LEARNED,
    LONG_AGO_MS,
    MAX_READERS,
    NEWEST_MS,
    REPEATED,
    STEP,
    Batch,
    Items,
    Room,
    Rules,
    Stream,
    Users,
)
from models.items.slots import FREE, OLDEST, USED, Slots, find, release, take, touch
from models.items.starts import start
from models.items.step import learn_step
from models.items.trained import Trained
from models.items.users import insert, place_of, user_row

#: By how much one event moves the stream's clock on at most, and by how many more events have to be further
#: ahead of it than are not, for it to follow them.
MAX_JUMP_MS, LEAP_EVENTS = 600_000, 64
#: Rows of items that expire at one event at most.
FREED_PER_EVENT = 2
_HOUR_MS = 3_600_000


@compiled_in_place
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
        look_ahead(batch, event, items, item_slots, users, user_slots, trained)
        new_rows[event] = -1
        numbers[STEP] += 1
        time_ms = _clocked(numbers, batch.time_ms[event])
        free = _expire(items, item_slots, numbers[NEWEST_MS] - rules.item_ttl_ms, event, freed, free)
        user_bits, bits = batch.users[batch.user[event]], batch.item[event]
        user = user_row(users, user_slots, user_bits, rules.max_users)
        place = place_of(users, user, batch.time_ms[event], batch.event_hash[event])
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
            items.revision[row] = numbers[STEP]
        elif items.trained[row] < 0:
            touch(item_slots, row)
        items.last_ms[row] = max(items.last_ms[row], time_ms)
        if is_first(pairs, user_bits, bits, time_ms // _HOUR_MS):
            _count(items, row, time_ms, np.uint32(user_bits >> np.uint64(32)), rules.half_lives_ms)
            is_new = rules.rate > 0 and batch.time_ms[event] > rules.learned_until_ms
            if is_new and (place > 0 or users.had[user] == 0):
                hashes = item_slots.hashes
                learn_step(items, hashes, users, user, place, row, time_ms, stream, trained, rules, room)
                numbers[LEARNED] += 1
            at = numbers[COUNTED] % len(stream.recent)
            stream.recent[at, 0], stream.recent[at, 1] = row, items.generation[row]
            numbers[COUNTED] += 1
            items.revision[row] = numbers[STEP]
            fetch_negatives(items, stream, rules.seed, room)
        else:
            numbers[REPEATED] += 1
        insert(users, user, place, row, items.generation[row], batch.time_ms[event], batch, event)
    return free


@compiled_within
def _clocked(numbers: Ints, time_ms: int) -> int:
    """Move the stream's clock on to an event's time (ms), and return the lesser of the two.

    One event moves it by MAX_JUMP_MS at most: whose clock is ahead does not make all others late. Where most
    events are further ahead, it is the stream that has gone on, after a gap or because little comes. It
    begins with the least time of the first few, which may be of a clock that is ahead.
    """
    ahead_ms = time_ms - numbers[NEWEST_MS]
    if numbers[STEP] == 1 or (numbers[STEP] <= LEAP_EVENTS and ahead_ms < -MAX_JUMP_MS):
        numbers[NEWEST_MS] = time_ms
    elif ahead_ms > MAX_JUMP_MS:
        numbers[AHEAD] = min(numbers[AHEAD] + 1, LEAP_EVENTS)
        numbers[NEWEST_MS] += ahead_ms if numbers[AHEAD] == LEAP_EVENTS else MAX_JUMP_MS
    else:
        numbers[AHEAD] = max(numbers[AHEAD] - 1, 0)
        numbers[NEWEST_MS] += max(ahead_ms, 0)
    return int(min(time_ms, numbers[NEWEST_MS]))


@compiled_within
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


@compiled_within
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


@compiled_within
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
