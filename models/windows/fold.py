"""Events -> windows, a whole batch at once and outside the interpreter lock: the hot loop of a worker.

What a fold does is said by `Window` (models/windows/window.py) and, event by event in plain Python, by
models/windows/reference.py; a test holds the two together. Compiled by Numba on first use, then kept on disk.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from models.arrays import Bytes, Ints
from models.ids.texts import Texts, texts_of
from models.windows.decode import COUNTS, Batch, Records, Rules
from models.windows.fold_kernels import fold_users
from models.windows.layout import EDGE_HASH_BYTES, EVENT_BYTES, HEADER_BYTES
from models.windows.window import MAX_EVENTS_BYTES, WindowError, WindowSettings, read_header

#: Users whose windows are laid side by side at a time: they fit the CPU's second cache, and no batch is so
#: large that its memory is asked of the system each time anew.
PORTION_USERS = 128


@dataclass(frozen=True, slots=True)
class EventColumns:
    """E readable events of U users, in the order of their offsets.

    user (E,) number of the event's user; offset, time_ms (E,) int64; behaviour (E,) uint8; event_hash (E,)
    int64, the 64 bits of the hash; item, category: E texts each.
    """

    user: Ints
    offset: Ints
    time_ms: Ints
    behaviour: Bytes
    event_hash: Ints
    item: Texts
    category: Texts

    def __len__(self) -> int:
        return len(self.user)


@dataclass(frozen=True, slots=True)
class Folded:
    """What became of U users: their new values, None where nothing changed, and per user (U,) int64 counts.

    newest_ms is the time of the newest event of each window, 0 where it is empty.
    """

    values: list[bytes | None]
    applied: Ints
    duplicate: Ints
    late: Ints
    redelivered: Ints
    newest_ms: Ints


def fold_events(
    values: Sequence[bytes | None],
    events: EventColumns,
    topic_id: str,
    partition: int,
    settings: WindowSettings,
    max_bytes: int = MAX_EVENTS_BYTES,
) -> Folded:
    """Fold events into the windows of U users, `values[u]` being that of user u, None for none yet.

    `max_bytes` is what a window's events may take, ids included: the oldest are dropped that are too much.
    Events of a partition must come in the order of their offsets; a redelivery of any of them is harmless.
    Raises WindowError where a value is not a window of this format.
    """
    # Numbers of two bytes are sorted by their digits, in a fifth of the time.
    order = np.argsort(events.user.astype(np.min_scalar_type(len(values))), kind="stable")
    event_starts = np.zeros(len(values) + 1, np.int64)
    np.cumsum(np.bincount(events.user, minlength=len(values)), out=event_starts[1:])
    batch = Batch(
        *(order, event_starts, events.offset, events.time_ms, events.behaviour, events.event_hash),
        *(events.item.text, events.item.starts, events.category.text, events.category.starts),
    )
    topic = np.frombuffer(topic_id.encode(), np.uint8)
    rules = Rules(topic, partition, min(settings.max_events, 2**31), settings.horizon_ms, max_bytes)
    counts = np.zeros(len(values), COUNTS)
    new_values: list[bytes | None] = []
    for first in range(0, len(values), PORTION_USERS):
        users = slice(first, first + PORTION_USERS)
        starts = event_starts[first : first + PORTION_USERS + 1]
        new_values += _fold_portion(values[users], batch._replace(starts=starts), rules, counts[users])
    return Folded(new_values, *(counts[name] for name in COUNTS.names or ()))


def _fold_portion(
    values: Sequence[bytes | None], batch: Batch, rules: Rules, counts: Records
) -> list[bytes | None]:
    """Fold events of U users, count what became of them in counts (U,), and return the new values."""
    old_starts, new_starts = np.zeros(len(values) + 1, np.int64), np.zeros(len(values) + 1, np.int64)
    np.cumsum([len(value) if value else 0 for value in values], out=old_starts[1:])
    # Of the same type as the new ones, so that what reads and writes them is compiled once.
    old = np.frombuffer(bytearray().join([value for value in values if value]), np.uint8)
    new_bytes = len(values) * (HEADER_BYTES + len(rules.topic) + 8)
    new_bytes += int(batch.starts[-1] - batch.starts[0]) * (EVENT_BYTES + EDGE_HASH_BYTES)
    new_bytes += len(batch.item_text) + len(batch.category_text)
    new = np.empty((len(old) + new_bytes) // 8 + 1, np.int64)
    damaged = fold_users(old.view(np.int64), old_starts, batch, rules, new, new_starts, counts)
    if damaged >= 0:
        read_header(values[damaged] or b"")  # says what is wrong with it
        raise WindowError("a stored window is damaged")
    ends = new_starts.tolist()
    content = new[: ends[-1] // 8].tobytes()
    return [content[start:end] or None for start, end in pairwise(ends)]


def compile_fold() -> None:
    """Compile the fold, or load what was compiled before: seconds that no event should wait for."""
    none, nothing = np.zeros(0, np.int64), texts_of([])
    nobody = EventColumns(none, none, none, np.zeros(0, np.uint8), none, nothing, nothing)
    fold_events([None], nobody, "", 0, WindowSettings())
