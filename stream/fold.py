"""One partition's share of the work: record batches folded into windows, and what that makes due."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from models.events import BEHAVIOURS, MAX_AHEAD_MS, Event, event_hash
from models.window import (
    Incoming,
    Outcome,
    Window,
    WindowSettings,
    fold_all,
    window_from_bytes,
    window_to_bytes,
)
from stream.decoder import Decode

#: Header with the producer's wall-clock time, epoch ms in ASCII digits.
SENT_AT_HEADER = "sent_at"

#: Send times read of one batch, about.
SEND_TIMES_PER_BATCH = 256

#: A record without a value that has this header asks for its key's user to be forgotten (stream/forget.py).
FORGET_HEADER = "twintide-forget"

#: Reads the stored windows of some users; None for a user without one.
LoadWindows = Callable[[Sequence[bytes]], Sequence[bytes | None]]


class Record(Protocol):
    """What the fold needs of a Kafka record (confluent_kafka.Message)."""

    def key(self) -> bytes | None: ...
    def value(self) -> bytes | None: ...
    def offset(self) -> int: ...
    def headers(self) -> Sequence[tuple[str, bytes]] | None: ...


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record that goes to the dead-letter topic."""

    record: Record
    reason: str


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


class PartitionFold:
    """The state of one source partition, from its assignment until it is given away.

    Nothing in here waits or talks to a server, and all of it is used from one thread.
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
        self._settings = settings
        self._load = load
        self._windows: dict[str, Window] = {}
        self._changed: dict[str, None] = {}
        self._tombstones: dict[str, None] = {}

    def fold(self, records: Sequence[Record], decode: Decode) -> tuple[Mapping[Outcome, int], list[Rejected]]:
        """Fold the records, which stand in offset order; return counts by outcome, and what is unreadable."""
        forgets: dict[str, int] = {}
        events, sent_at_ms, rejected = self._by_user(records, decode, forgets)
        self._fetch(events)
        counts: dict[Outcome, int] = {}
        for user_id, of_user in events.items():
            if user_id in forgets:
                self._forget(user_id, forgets[user_id])
                if not of_user:
                    continue
            window = self._windows[user_id]
            outcomes = fold_all(window, of_user, self.topic_id, self.partition, self._settings)
            if window.times_ms:  # else forgotten, and these came before
                self.newest_ms = max(self.newest_ms, window.times_ms[-1])
            for outcome, count in outcomes.items():
                counts[outcome] = counts.get(outcome, 0) + count
            if len(outcomes) > 1 or "redelivered" not in outcomes:
                self._changed[user_id] = None
            if "applied" in outcomes or "redelivered" in outcomes:
                self._mark_dirty(user_id, of_user, sent_at_ms[user_id])
        self.position = max(self.position, records[-1].offset() + 1)
        return counts, rejected

    def window(self, user_id: str) -> Window:
        """Return a user's window as it stands now."""
        self._fetch((user_id,))
        return self._windows[user_id]

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
        values = {
            user_id.encode(): window_to_bytes(self._windows[user_id])
            for user_id in self._changed
            if len(self._windows[user_id])
        }
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
        if not self._windows[user_id].has_folded(self.topic_id, self.partition, offset):
            # It remembers the offset, so that older events that come again meanwhile change nothing.
            self._windows[user_id] = Window(self.topic_id, self.partition, offset)
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

    def _mark_dirty(self, user_id: str, events: Sequence[Incoming], sent_at_ms: list[int]) -> None:
        user = self.dirty.get(user_id)
        if user is None:
            self.dirty[user_id] = DirtyUser(events[0].offset, len(events), sent_at_ms)
        else:
            user.events += len(events)
            user.sent_at_ms += sent_at_ms

    def _fetch(self, user_ids: Iterable[str]) -> None:
        """Have the windows of these users in memory, most recently used last."""
        missing = []
        for user_id in user_ids:
            window = self._windows.pop(user_id, None)
            if window is None:
                missing.append(user_id)
            else:
                self._windows[user_id] = window
        if missing:
            values = self._load([user_id.encode() for user_id in missing])
            for user_id, value in zip(missing, values, strict=True):
                self._windows[user_id] = Window() if value is None else window_from_bytes(value)

    def _by_user(
        self, records: Sequence[Record], decode: Decode, forgets: dict[str, int]
    ) -> tuple[dict[str, list[Incoming]], dict[str, list[int]], list[Rejected]]:
        """Return each user's readable events and their send times, users by their first, and the rest."""
        events: dict[str, list[Incoming]] = {}
        sent: dict[str, list[int]] = {}
        rejected: list[Rejected] = []
        latest_ms = int(time.time() * 1000) + MAX_AHEAD_MS
        # Reading a header costs as much as decoding the event: of large batches some send times must do.
        sampled = records[:: 1 + len(records) // SEND_TIMES_PER_BATCH]
        sent_at = {record.offset(): sent_at_ms(record.headers() or ()) for record in sampled}
        for record in records:
            try:
                event = decode(record.value() or b"")
            except Exception:  # a decoder of the user's may raise anything; an event is data, never a crash
                if user_id := _user_to_forget(record):
                    events.pop(user_id, None)  # what came before need not be folded, what comes later stands
                    events[user_id], sent[user_id] = [], []
                    forgets[user_id] = record.offset()
                else:
                    rejected.append(Rejected(record, "unreadable"))
                continue
            user_id = event.user_id if type(event.user_id) is str else str(event.user_id)
            if reason := _complaint(event, user_id, record.key(), latest_ms):
                rejected.append(Rejected(record, reason))
                continue
            if user_id not in events:
                events[user_id], sent[user_id] = [], []
            events[user_id].append(self._incoming(event, record.offset()))
            if at_ms := sent_at.get(record.offset()):
                sent[user_id].append(at_ms)
        return events, sent, rejected

    def _incoming(self, event: Event, offset: int) -> Incoming:
        event_id = event.event_id
        if event_id is None:
            event_id = f"{self.topic_id}/{self.partition}/{offset}"
        return Incoming(
            offset,
            event.time,
            event.behavior_type,
            event.item_id if type(event.item_id) is str else str(event.item_id),
            event.item_category if type(event.item_category) is str else str(event.item_category),
            event_hash(event_id if type(event_id) is str else str(event_id)),
        )


def _complaint(event: Event, user_id: str, key: bytes | None, latest_ms: int) -> str:
    """Return why an event makes no sense, one of a small set of reasons; empty where it does."""
    if not user_id:
        return "no_user"
    if event.item_id == "":
        return "no_item"
    if event.behavior_type not in BEHAVIOURS:
        return "behaviour"
    if not 0 < event.time <= latest_ms:
        return "time"
    if key != user_id.encode():
        # Another key may mean another partition, whose worker would keep a second window of this user.
        return "key"
    return ""


def _user_to_forget(record: Record) -> str:
    """Return which user a control record says to forget; empty where it is no such record."""
    if record.value() is None and any(name == FORGET_HEADER for name, _ in record.headers() or ()):
        return (record.key() or b"").decode(errors="replace")
    return ""


def sent_at_ms(headers: Sequence[tuple[str, bytes]]) -> int:
    """Return the producer's send time, or 0 where the record has none."""
    for name, value in headers:
        if name == SENT_AT_HEADER and value and value.isdigit():
            return int(value)
    return 0
