"""The tables of a learner of items: made, grown, written down as plain arrays, and read back."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from models.arrays import Flags
from models.items.rows import AHEAD, LONG_AGO_MS, MAX_READERS, Items, Stream, Users
from models.items.slots import USED, Slots, grown, make_slots, refill
from models.items.trained import Trained

T = TypeVar("T", Items, Users)


@dataclass(slots=True)
class Tables:
    """The items and users of a learner, each with what finds their rows; they grow by being replaced."""

    items: Items
    item_slots: Slots
    users: Users
    user_slots: Slots

    def make_room(self, items: int, users: int) -> None:
        """Have places for so many items and users."""
        self.items, self.item_slots = with_room(self.items, self.item_slots, items)
        self.users, self.user_slots = with_room(self.users, self.user_slots, users)


def make_items(capacity: int, dimension: int) -> Items:
    """Return rows that no item has."""
    return Items(
        inputs=np.zeros((capacity, dimension), np.float32),
        outputs=np.zeros((capacity, dimension), np.float32),
        input_squares=np.zeros(capacity, np.float32),
        output_squares=np.zeros(capacity, np.float32),
        trained=np.full(capacity, -1, np.int64),
        category=np.zeros(capacity, np.int64),
        counts=np.zeros((capacity, 2), np.float64),
        counted_ms=np.full(capacity, LONG_AGO_MS, np.int64),
        readers=np.zeros(capacity, np.int64),
        reader_hashes=np.zeros((capacity, MAX_READERS), np.uint32),
        generation=np.zeros(capacity, np.int32),
        revision=np.zeros(capacity, np.int64),
        last_ms=np.full(capacity, LONG_AGO_MS, np.int64),
    )


def make_users(capacity: int, held: int) -> Users:
    """Return rows that no user has, for the last `held` events of each."""
    return Users(
        had=np.zeros(capacity, np.int64),
        item=np.zeros((capacity, held), np.int32),
        generation=np.zeros((capacity, held), np.int32),
        behaviour=np.zeros((capacity, held), np.uint8),
        time_ms=np.zeros((capacity, held), np.int64),
        event_hash=np.zeros((capacity, held), np.int64),
    )


def make_stream(recent: int) -> Stream:
    """Return a stream of which nothing was seen."""
    return Stream(np.zeros(AHEAD + 1, np.int64), np.zeros(3, np.float64), np.zeros((recent, 2), np.int32))


def stream_from_arrays(arrays: Mapping[str, np.ndarray[Any, Any]]) -> Stream:
    """Return the stream of a learner's state; AHEAD is 0 where the state was written before there was one."""
    stream = Stream(*(arrays[f"stream/{each}"].copy() for each in Stream._fields))
    return stream._replace(numbers=np.pad(stream.numbers, (0, AHEAD + 1 - len(stream.numbers))))


def with_room(rows: T, slots: Slots, needed: int) -> tuple[T, Slots]:
    """Return the same rows with places for so many, or as they are where they have them."""
    if needed <= len(slots.hashes):
        return rows, slots
    capacity = max(needed, len(slots.hashes) * 3 // 2)
    return with_rows(rows, capacity), grown(slots, capacity, used(slots))


def with_rows(rows: T, capacity: int) -> T:
    """Return the same rows and empty ones, `capacity` in all."""
    count = len(rows[0])
    if count >= capacity:
        return rows
    wider = type(rows)(*(_wider(column, capacity) for column in rows))
    if isinstance(wider, Items):
        wider.trained[count:] = -1
    return wider


def _wider(column: np.ndarray[Any, Any], capacity: int) -> np.ndarray[Any, Any]:
    found = np.zeros((capacity, *column.shape[1:]), column.dtype)
    found[: len(column)] = column
    return found


def used(slots: Slots) -> Flags:
    """Return whether each row ever used (USED,) is in use now."""
    is_used = np.zeros(len(slots.hashes), np.bool_)
    is_used[slots.table[slots.table >= 0]] = True
    return is_used[: slots.ends[USED]]


def to_arrays(name: str, rows: Items | Users, slots: Slots) -> dict[str, np.ndarray[Any, Any]]:
    """Return what rows and slots hold as arrays, all but `ends` with a row for each row ever used."""
    count = slots.ends[USED]
    columns = {**rows._asdict(), "hash": slots.hashes, "newer": slots.newer, "older": slots.older}
    found = {f"{name}/{key}": column[:count].copy() for key, column in columns.items()}
    found[f"{name}/is_used"] = used(slots)
    found[f"{name}/ends"] = slots.ends.copy()
    return found


def from_arrays(name: str, empty: T, state: Mapping[str, np.ndarray[Any, Any]]) -> tuple[T, Slots]:
    """Return the rows and slots of `to_arrays`; `empty` are rows of their kind, at least as many."""
    count = len(state[f"{name}/is_used"])
    slots = make_slots(len(empty[0]))
    for key, column in empty._asdict().items():
        column[:count] = state[f"{name}/{key}"]
    slots.hashes[:count] = state[f"{name}/hash"]
    slots.newer[:count], slots.older[:count] = state[f"{name}/newer"], state[f"{name}/older"]
    slots.ends[:] = state[f"{name}/ends"]
    refill(slots, np.flatnonzero(state[f"{name}/is_used"]))
    return empty, slots


def fill_known(
    items: Items, slots: Slots, trained: Trained, categories: Any, hashes: Any, squares: float
) -> None:
    """Give the first rows to the known items of a model, for good."""
    count = len(trained.inputs)
    items.inputs[:count], items.outputs[:count] = trained.inputs, trained.outputs
    items.input_squares[:count] = items.output_squares[:count] = squares
    items.trained[:count], items.category[:count] = np.arange(count), categories
    slots.hashes[:count] = hashes
    slots.ends[USED] = count
    refill(slots, np.arange(count))
