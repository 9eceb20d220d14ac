"""The last events of each user, as machine code; letters as in rows.py."""

import numpy as np

from models.compiled import compiled_within
from models.items.rows import Batch, Users
from models.items.slots import Slots, find, take, touch


@compiled_within
def user_row(users: Users, slots: Slots, bits: np.uint64, limit: int) -> int:
    """Return the row of the user with these bits, who is the newest from now on; a new one has no events."""
    row = find(slots, bits)
    if row < 0:
        row = take(slots, bits, limit)
        users.had[row] = 0
    else:
        touch(slots, row)
    return row


@compiled_within
def place_of(users: Users, user: int, time_ms: int, event_hash: int) -> int:
    """Return how many of a user's last events come before a new one; -1 where it is one of them."""
    held = min(users.had[user], users.item.shape[1])
    place = held
    for event in range(held - 1, -1, -1):
        if users.event_hash[user, event] == event_hash:
            return -1
        if users.time_ms[user, event] > time_ms:
            place = event
    return int(place)


@compiled_within
def insert(
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


@compiled_within
def _move(users: Users, user: int, source: int, to: int) -> None:
    users.item[user, to], users.generation[user, to] = (
        users.item[user, source],
        users.generation[user, source],
    )
    users.behaviour[user, to] = users.behaviour[user, source]
    users.time_ms[user, to] = users.time_ms[user, source]
    users.event_hash[user, to] = users.event_hash[user, source]
