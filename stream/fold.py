"""One partition's share of the work: record batches folded into windows, and what that makes due."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from models.events import BEHAVIOURS, MAX_AHEAD_MS, Event, event_hash
from models.window import Incoming, Window, WindowSettings, fold, window_from_bytes, window_to_bytes
from stream.decoder import Decode

#: Header with the producer's wall-clock time, epoch ms in ASCII digits.
SENT_AT_HEADER = "sent_at"

#: Reads the stored windows of some users; None for a user without one.
LoadWindows = Callable[[Sequence[bytes]], Sequence[bytes | None]]


class Record(Protocol):
    """What the fold needs of a Kafka record."""

    key: bytes | None
    value: bytes | None
    offset: int
    headers: Sequence[tuple[str, bytes]]


class RejectedError(ValueError):
    """An event that cannot be read; the first argument is the reason, one of a small set."""


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
    events: int = 0
    sent_at_ms: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The windows that changed since the last checkpoint, and the source offset they stand for."""

    position: int
    values: Mapping[bytes, bytes]


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
        self._settings = settings
        self._load = load
        self._windows: dict[str, Window] = {}
        self._changed: dict[str, None] = {}

    def fold(self, records: Sequence[Record], decode: Decode) -> tuple[dict[str, int], list[Rejected]]:
        """Fold the records, which stand in offset order; return counts by outcome, and what is unreadable."""
        rejected: list[Rejected] = []
        readable = list(self._readable(records, decode, rejected))
        self._fetch({user_id for user_id, _, _ in readable})
        counts = {"applied": 0, "duplicate": 0, "late": 0, "redelivered": 0}
        for user_id, event, sent_at_ms in readable:
            outcome = fold(self._windows[user_id], event, self.topic_id, self.partition, self._settings)
            counts[outcome] += 1
            if outcome != "redelivered":
                self._changed[user_id] = None
            if outcome in ("applied", "redelivered"):
                self._mark_dirty(user_id, event.offset, sent_at_ms)
        self.position = max(self.position, records[-1].offset + 1)
        return counts, rejected

    def window(self, user_id: str) -> Window:
        """Return a user's window as it stands now."""
        self._fetch((user_id,))
        return self._windows[user_id]

    def committable(self) -> int:
        """Return the source offset that may be committed: all before it is durable and written."""
        return min(self.durable_position, self._vectors_written_up_to())

    def take(self, at_most: int) -> list[str]:
        """Move the users that wait longest from dirty to in flight, and return them."""
        users = [user_id for user_id, _ in zip(self.dirty, range(at_most), strict=False)]
        for user_id in users:
            self.in_flight[user_id] = self.dirty.pop(user_id)
        return users

    def snapshot(self) -> Snapshot:
        """Return what changed since the last snapshot; the caller makes it durable or stops the worker."""
        values = {user_id.encode(): window_to_bytes(self._windows[user_id]) for user_id in self._changed}
        self._changed = {}
        return Snapshot(self.position, values)

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

    def _mark_dirty(self, user_id: str, offset: int, sent_at_ms: int) -> None:
        user = self.dirty.get(user_id)
        if user is None:
            user = self.dirty[user_id] = DirtyUser(offset)
        user.events += 1
        if sent_at_ms:
            user.sent_at_ms.append(sent_at_ms)

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

    def _readable(
        self, records: Sequence[Record], decode: Decode, rejected: list[Rejected]
    ) -> Iterable[tuple[str, Incoming, int]]:
        latest_ms = int(time.time() * 1000) + MAX_AHEAD_MS
        for record in records:
            try:
                event = decode(record.value or b"")
            except Exception:  # a decoder of the user's may raise anything; an event is data, never a crash
                rejected.append(Rejected(record, "unreadable"))
                continue
            try:
                yield (*self._checked(event, record, latest_ms), sent_at_ms(record.headers))
            except RejectedError as error:
                rejected.append(Rejected(record, error.args[0]))

    def _checked(self, event: Event, record: Record, latest_ms: int) -> tuple[str, Incoming]:
        """Return the event's user and what the window needs; RejectedError where it makes no sense."""
        user_id, item_id = str(event.user_id), str(event.item_id)
        if not user_id:
            raise RejectedError("no_user")
        if not item_id:
            raise RejectedError("no_item")
        if event.behavior_type not in BEHAVIOURS:
            raise RejectedError("behaviour")
        if not 0 < event.time <= latest_ms:
            raise RejectedError("time")
        if record.key != user_id.encode():
            # Another key may mean another partition, whose worker would keep a second window of this user.
            raise RejectedError("key")
        event_id = (
            f"{self.topic_id}/{self.partition}/{record.offset}"
            if event.event_id is None
            else str(event.event_id)
        )
        return user_id, Incoming(
            record.offset,
            event.time,
            event.behavior_type,
            item_id,
            str(event.item_category),
            event_hash(event_id),
        )


def sent_at_ms(headers: Sequence[tuple[str, bytes]]) -> int:
    """Return the producer's send time, or 0 where the record has none."""
    for name, value in headers:
        if name == SENT_AT_HEADER and value and value.isdigit():
            return int(value)
    return 0
