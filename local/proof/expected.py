"""What every checked user's window should be: the topic's events, folded one by one in plain Python.

A worker may be at work meanwhile, so the topic is read twice: up to what is committed, which everything in
the changelog and in Redis must know; and then, once it is known up to which offset each user's stored window
and vectors have come since, on to there.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from local.proof.dead_letters import Place
from local.proof.sample import UserSample
from models.events import MAX_AHEAD_MS, SKIPPED_EVENT, Event, event_hash
from models.windows.reference import IncomingEvent, fold
from models.windows.window import (
    MAX_EVENTS_BYTES,
    Window,
    WindowSettings,
    window_from_bytes,
    window_to_bytes,
)
from stream.events.decoder import Decoder
from stream.events.incoming import complaint, user_to_forget


class TopicRecord(Protocol):
    """What is needed of a Kafka record (confluent_kafka.Message)."""

    def key(self) -> bytes | None: ...
    def value(self) -> bytes | None: ...
    def partition(self) -> int: ...
    def offset(self) -> int: ...
    def timestamp(self) -> tuple[int, int]: ...
    def headers(self) -> Sequence[tuple[str, bytes]] | None: ...


@dataclass(frozen=True, slots=True)
class State:
    """A user's window as it should be after some offset."""

    value: bytes
    #: Offsets of the last record of the user, and of the last that changed the window's events.
    last_offset: int
    applied_offset: int
    #: A sweep may have dropped the window on the way: then nobody knows how many events it counts, or, if
    #: what came next was so late that it would still stand beside them, which.
    is_count_certain: bool
    is_content_certain: bool

    @property
    def window(self) -> Window:
        """Return the window."""
        return window_from_bytes(self.value)


@dataclass(slots=True)
class ExpectedUser:
    """One user, as far as the topic has been read."""

    partition: int
    window: Window
    last_offset: int = -1
    applied_offset: int = -1
    is_count_certain: bool = True
    is_content_certain: bool = True
    #: Events on another partition, too: there is a window on each.
    is_split: bool = False
    #: Offset of the last record that asked to forget the user; -1: none.
    forgotten_offset: int = -1
    #: How many events came to which outcome in the committed part; a forgotten user's too.
    applied: int = 0
    duplicate: int = 0
    late: int = 0
    #: The state after the committed part, where the user was read on.
    committed: State | None = None
    #: Offsets behind the committed part after which the state is wanted too, the greatest first.
    wanted: list[int] = field(default_factory=list)
    reached: dict[int, State] = field(default_factory=dict)

    def state(self) -> State:
        """Return the state as it is now."""
        return State(
            window_to_bytes(self.window),
            self.last_offset,
            self.applied_offset,
            self.is_count_certain,
            self.is_content_certain,
        )

    def state_after(self, offset: int) -> State:
        """Return the state after an offset that was wanted; else that after the committed part."""
        return self.reached.get(offset) or self.committed or self.state()

    def reach(self, offset: int) -> None:
        """Keep the wanted states before an offset, which is folded next."""
        while self.wanted and self.wanted[-1] < offset:
            self.reached[self.wanted.pop()] = self.state()

    def fold(self, event: IncomingEvent, topic_id: str, limits: WindowSettings, newest_ms: int) -> None:
        """Fold an event; `newest_ms` is the newest event time that the partition had brought before."""
        times_ms = self.window.times_ms
        may_be_swept = bool(times_ms) and times_ms[-1] < newest_ms - limits.horizon_ms
        outcome = fold(self.window, event, topic_id, self.partition, limits, MAX_EVENTS_BYTES)
        is_alone = outcome == "applied" and len(times_ms) == 1
        if may_be_swept:
            self.is_count_certain = False
            self.is_content_certain = is_alone
        elif is_alone:
            self.is_content_certain = True
        self.last_offset = event.offset
        if outcome == "applied":
            self.applied_offset = event.offset

    def forget(self, topic_id: str, offset: int) -> None:
        """Forget all events."""
        self.window = Window(topic_id, self.partition, offset)
        self.last_offset = self.applied_offset = self.forgotten_offset = offset
        self.is_count_certain = self.is_content_certain = True


class ExpectedUsers:
    """The checked users of a topic."""

    def __init__(
        self,
        topic_id: str,
        decoder: Decoder,
        limits: WindowSettings,
        sample: UserSample,
        *,
        are_swept: bool = True,
        too_early: Collection[Place] = (),
    ) -> None:
        """`are_swept`: workers drop users who were not seen for long; too_early: see DeadLetters."""
        self.users: dict[bytes, ExpectedUser] = {}
        #: The newest event time of each partition (ms), where that is needed.
        self.newest_ms: dict[int, int] = {}
        self._unreadable: list[tuple[bytes, Place]] = []
        self._skipped: Counter[bytes] = Counter()
        self._topic_id = topic_id
        self._decoder = decoder
        self._limits = limits
        self._sample = sample
        self._are_swept = are_swept
        self._too_early = too_early

    def read_committed(self, records: Sequence[TopicRecord], now_ms: int) -> None:
        """Take the next records of the committed part."""
        looked_at = [each for each in records if self._are_swept or self._sample.covers(each.key() or b"")]
        events = self._decoder.events([each.value() for each in looked_at])
        for record, event in zip(looked_at, events, strict=True):
            self._take(record, event, now_ms)

    def _take(self, record: TopicRecord, event: Event | None, now_ms: int) -> None:
        key, place = record.key() or b"", (record.partition(), record.offset())
        newest_ms = self._note_time(place[0], event, now_ms)
        if not self._sample.covers(key):
            return
        if event is SKIPPED_EVENT:
            self._skipped[key] += 1
            return
        if event is None or not self._is_sound(record, event, now_ms):
            if user_id := user_to_forget(record):
                self._user(user_id.encode(), place[0]).forget(self._topic_id, place[1])
            else:
                self._unreadable.append((key, place))
            return
        user = self._user(key, place[0])
        if user.partition != place[0]:
            user.is_split = True
            return
        before = user.window.applied, user.window.duplicate, user.window.late
        user.fold(self._incoming(event, place), self._topic_id, self._limits, newest_ms)
        user.applied += user.window.applied - before[0]
        user.duplicate += user.window.duplicate - before[1]
        user.late += user.window.late - before[2]

    def want(self, wanted: Mapping[bytes, Iterable[int]], committed: Mapping[int, int]) -> None:
        """Say after which offsets users' states are wanted too, as far as they are not in the committed part.

        committed: by partition, the end of that part.
        """
        for key, offsets in wanted.items():
            user = self.users[key]
            later = {offset for offset in offsets if offset >= committed[user.partition]}
            if later:
                user.committed, user.wanted = user.state(), sorted(later, reverse=True)

    def read_on(self, records: Sequence[TopicRecord], now_ms: int) -> None:
        """Take the next records after the committed part."""
        events = self._decoder.events([each.value() for each in records])
        for record, event in zip(records, events, strict=True):
            self._take_on(record, event, now_ms)

    def _take_on(self, record: TopicRecord, event: Event | None, now_ms: int) -> None:
        newest_ms = self._note_time(record.partition(), event, now_ms)
        user = self.users.get(record.key() or b"")
        if user is None or user.partition != record.partition():
            return
        if event is not None and not self._is_sound(record, event, now_ms):
            event = None
        is_forgotten = event is None and bool(user_to_forget(record))
        if is_forgotten:
            user.forgotten_offset = record.offset()
        user.reach(record.offset())
        if user.wanted and is_forgotten:
            user.forget(self._topic_id, record.offset())
        elif user.wanted and event is not None:
            incoming = self._incoming(event, (record.partition(), record.offset()))
            user.fold(incoming, self._topic_id, self._limits, newest_ms)

    def finish(self) -> None:
        """Keep the states that are still wanted: nothing comes after them."""
        for user in self.users.values():
            if user.wanted:
                user.reach(user.wanted[0] + 1)

    def unreadable(self) -> list[Place]:
        """Return which records of the committed part no worker can read, as far as they are checked."""
        return [place for key, place in self._unreadable if self._sample.covers(key)]

    def skipped(self) -> int:
        """Return how many events of the committed part are to be skipped, as far as they are checked."""
        return sum(count for key, count in self._skipped.items() if self._sample.covers(key))

    def _is_sound(self, record: TopicRecord, event: Event, now_ms: int) -> bool:
        """Return whether a worker would take the event, and has not refused it as too far ahead."""
        return (
            not complaint(event, record.key(), now_ms + MAX_AHEAD_MS)
            and (record.partition(), record.offset()) not in self._too_early
        )

    def _note_time(self, partition: int, event: Event | None, now_ms: int) -> int:
        """Return the partition's newest event time before this event.

        An event that makes no sense otherwise counts too, which saves looking at most of them: it can only
        make more windows pass for dropped.
        """
        newest_ms = self.newest_ms.get(partition, 0)
        if self._are_swept and event is not None and newest_ms < event.time <= now_ms + MAX_AHEAD_MS:
            self.newest_ms[partition] = event.time
        return newest_ms

    def _user(self, key: bytes, partition: int) -> ExpectedUser:
        user = self.users.get(key)
        if user is None:
            user = self.users[key] = ExpectedUser(partition, Window())
            if (leaving := self._sample.add(key)) is not None:
                del self.users[leaving]
        return user

    def _incoming(self, event: Event, place: Place) -> IncomingEvent:
        partition, offset = place
        event_id = f"{self._topic_id}/{partition}/{offset}" if event.event_id is None else str(event.event_id)
        return IncomingEvent(
            offset=offset,
            time_ms=event.time,
            behaviour=event.behavior_type,
            item_id=str(event.item_id),
            category=event.category,
            event_hash=event_hash(event_id),
        )
