"""One partition's share of the work: record batches folded into windows, and what that makes due."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt

from models.windows.fold import fold_events
from models.windows.window import Window, WindowSettings, is_empty, read_header, window_to_bytes
from stream.events.incoming import Incoming

#: Reads the stored windows of some users; None for a user without one.
LoadWindows = Callable[[Sequence[bytes]], Sequence[bytes | None]]


@dataclass(slots=True)
class DirtyUser:
    """A user whose vector does not know all of the window yet."""

    #: Offset of the oldest event that no written vector knows.
    first_offset: int
    #: Events waiting for the vector, and the send times of those that have one (epoch ms).
    events: int
    sent_at_ms: list[int]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The windows that changed since the last checkpoint, and the source offset they stand for."""

    position: int
    values: Mapping[bytes, bytes]
    #: Users to forget; one that came back since has a value too, which comes after the tombstone.
    tombstones: Sequence[bytes] = ()


class Partition:
    """The state of one source partition during one assignment.

    Nothing in here waits or talks to a server, and all of it is used from the event loop, which alone changes
    it; a checkpoint's thread gets a snapshot.
    """

    def __init__(self, topic_id: str, partition: int, settings: WindowSettings, load: LoadWindows) -> None:
        self.topic_id = topic_id
        self.partition = partition
        #: Offset of the next event to fold; -1 before the first.
        self.position = -1
        #: Every event before this offset is in the changelog and in RocksDB; -1 before the first checkpoint.
        self.durable_position = -1
        #: Users to encode, by the offset of their oldest waiting event.
        self.dirty: dict[str, DirtyUser] = {}
        #: Users being encoded or written right now.
        self.in_flight: dict[str, DirtyUser] = {}
        #: The newest event time seen (ms).
        self.newest_ms = 0
        #: Events that are still to be read, as far as is known.
        self.behind = 0
        #: The last key that the sweep has seen; None where none is under way.
        self.sweep_place: bytes | None = None
        self._fetched = 0
        self._applied = 0
        self._settings = settings
        self._load = load
        self._windows: dict[str, bytes] = {}
        self._changed: dict[str, None] = {}
        self._tombstones: dict[str, None] = {}

    def number_batch(self) -> int:
        """Return the number of the batch that was fetched now: 0, 1, 2, ..."""
        self._fetched += 1
        return self._fetched - 1

    def is_next(self, number: int) -> bool:
        """Return whether this is the batch after the last one that was applied: else one was lost."""
        is_next = number == self._applied
        self._applied += is_next
        return is_next

    def apply(self, incoming: Incoming) -> dict[str, int]:
        """Fold a batch into its users' windows; return how many of its events came to which outcome.

        An event may be applied, duplicate, late, or redelivered: then it has changed nothing, but its user's
        vector may not be written yet.
        """
        for user_id, offset in incoming.forgets.items():
            self._forget(user_id, offset)
        counts = self._apply_events(incoming)
        if incoming.forgets:  # their offsets stand among the others'
            self.dirty = dict(sorted(self.dirty.items(), key=lambda each: each[1].first_offset))
        self.position = max(self.position, incoming.position)
        return counts

    def _apply_events(self, incoming: Incoming) -> dict[str, int]:
        user_ids, events = incoming.user_ids, incoming.events
        values = self._fetch(user_ids)
        folded = fold_events(values, events, self.topic_id, self.partition, self._settings)
        for user_id, value in zip(user_ids, folded.values, strict=True):
            if value is not None:
                self._windows[user_id] = value
                self._changed[user_id] = None
        self.newest_ms = max(self.newest_ms, int(folded.newest_ms.max(initial=0)))
        self._mark_dirty(incoming, folded.applied + folded.redelivered > 0)
        outcomes = ("applied", "duplicate", "late", "redelivered")
        return {name: total for name in outcomes if (total := int(getattr(folded, name).sum()))}

    def window(self, user_id: str) -> bytes:
        """Return a user's window as it stands now."""
        return self._fetch((user_id,))[0] or window_to_bytes(Window())

    def look(self, user_id: str) -> bytes | None:
        """Return a user's window as it stands now, None where there is none; it does not count as used."""
        return self._windows.get(user_id) or self._load([user_id.encode()])[0]

    def in_memory(self) -> list[str]:
        """Return the users whose windows are in memory, those used last at the end."""
        return list(self._windows)

    def peek(self, user_id: str) -> bytes | None:
        """Return a user's window if it is in memory; otherwise the stored one is the newest."""
        return self._windows.get(user_id)

    def committable(self) -> int:
        """Return the source offset that may be committed: all before it is durable and written."""
        return min(self.durable_position, self._vectors_written_up_to())

    def take(self, at_most: int, is_due: Callable[[str], bool] = lambda _: True) -> list[str]:
        """Move those of the users who are due that wait longest from dirty to in flight, and return them."""
        users = list(islice(filter(is_due, self.dirty), at_most))
        for user_id in users:
            self.in_flight[user_id] = self.dirty.pop(user_id)
        return users

    def snapshot(self) -> Snapshot:
        """Return what changed since the last snapshot; the caller makes it durable or stops the worker."""
        windows = ((user_id, self._windows[user_id]) for user_id in self._changed)
        values = {user_id.encode(): value for user_id, value in windows if not is_empty(value)}
        tombstones = [user_id.encode() for user_id in self._tombstones]
        self._changed, self._tombstones = {}, {}
        return Snapshot(self.position, values, tombstones)

    def needs_checkpoint(self) -> bool:
        """Return whether there is anything that the changelog does not have."""
        return self.position > self.durable_position or bool(self._tombstones)

    def drop(self, user_ids: Iterable[str]) -> None:
        """Drop the windows of users who are stored but not in use (sweep.py)."""
        for user_id in user_ids:
            if not self.is_in_use(user_id):
                self._windows.pop(user_id, None)
                self._tombstones[user_id] = None

    def is_in_use(self, user_id: str) -> bool:
        """Return whether a user's window or vector is not all written yet."""
        return user_id in self._changed or user_id in self.dirty or user_id in self.in_flight

    def _forget(self, user_id: str, offset: int) -> None:
        """Empty a user's window, once; the checkpoint makes a tombstone of it, the encoder a deletion."""
        (value,) = self._fetch((user_id,))
        if value is None or not read_header(value).has_folded(self.topic_id, self.partition, offset):
            # It remembers the offset, so that older events that come again meanwhile change nothing.
            self._windows[user_id] = window_to_bytes(Window(self.topic_id, self.partition, offset))
            self._changed[user_id] = self._tombstones[user_id] = None
        self.dirty.setdefault(user_id, DirtyUser(offset, 1, []))

    def _vectors_written_up_to(self) -> int:
        """Return the oldest offset whose user's vector is not in Redis yet; the position if there is none."""
        waiting = [user.first_offset for user in self.in_flight.values()]
        # Users become dirty in the order of their offsets, so the first is the oldest.
        waiting += [user.first_offset for user, _ in zip(self.dirty.values(), range(1), strict=False)]
        return min(waiting, default=self.position)

    def trim(self, keep: int) -> None:
        """Forget the windows unused for longest, down to `keep`; all but the changed must be stored."""
        surplus = len(self._windows) - keep
        if surplus > 0:
            unchanged = (user_id for user_id in self._windows if user_id not in self._changed)
            for user_id in [user_id for user_id, _ in zip(unchanged, range(surplus), strict=False)]:
                del self._windows[user_id]

    def _mark_dirty(self, incoming: Incoming, is_dirty: npt.NDArray[np.bool_]) -> None:
        user, offset = incoming.events.user, incoming.events.offset
        first_offsets = np.zeros(len(is_dirty), np.int64)
        first_offsets[user[::-1]] = offset[::-1]  # the last assignment stays: that of a user's first event
        counts = np.bincount(user, minlength=len(is_dirty))
        dirty = np.flatnonzero(is_dirty)
        rows = (dirty.tolist(), first_offsets[dirty].tolist(), counts[dirty].tolist())
        for number, first_offset, events in zip(*rows, strict=True):
            user_id, sent_at_ms = incoming.user_ids[number], incoming.sent_at_ms.get(number, [])
            waiting = self.dirty.get(user_id)
            if waiting is None:
                self.dirty[user_id] = DirtyUser(first_offset, events, sent_at_ms)
            else:
                waiting.events += events
                waiting.sent_at_ms += sent_at_ms

    def _fetch(self, user_ids: Sequence[str]) -> list[bytes | None]:
        """Return the windows of these users, None for one without; they are the most recently used now."""
        missing = [user_id for user_id in user_ids if user_id not in self._windows]
        if missing:
            stored = self._load([user_id.encode() for user_id in missing])
            self._windows |= {
                user_id: value for user_id, value in zip(missing, stored, strict=True) if value is not None
            }
        values = [self._windows.pop(user_id, None) for user_id in user_ids]
        self._windows |= {
            user_id: value for user_id, value in zip(user_ids, values, strict=True) if value is not None
        }
        return values
