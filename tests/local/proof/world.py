"""A small deployment without servers: a topic's records, what a worker would store, the proof's parts."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from local.proof.expected import ExpectedUsers
from local.proof.extent import Extent, OffsetRange
from local.proof.findings import Findings
from local.proof.sample import UserSample
from local.proof.stored import StoredWindows
from local.proof.windows import WindowCheck
from models.windows.window import WindowSettings, read_offset
from stream.events.decoder import make_decoder
from stream.events.incoming import FORGET_HEADER, read_records
from stream.windows.partition import Partition

TOPIC_ID = "topic-id"
LIMITS = WindowSettings(max_events=4, horizon_ms=1_000)
#: Long after every event.
NOW_MS = 10_000_000


@dataclass(frozen=True)
class Record:
    """A record of the topic or of the changelog."""

    the_key: bytes | None
    the_value: bytes | None
    the_offset: int = 0
    the_partition: int = 0
    the_headers: tuple[tuple[str, bytes], ...] = ()

    def key(self) -> bytes:
        return self.the_key or b""

    def value(self) -> bytes | None:
        return self.the_value

    def offset(self) -> int:
        return self.the_offset

    def partition(self) -> int:
        return self.the_partition

    def timestamp(self) -> tuple[int, int]:
        return 1, 0

    def headers(self) -> Sequence[tuple[str, bytes]]:
        return self.the_headers


def event(offset: int, user: str = "u", time: int = 5_000, partition: int = 0, **fields: object) -> Record:
    """Return the record of an event; the item is named after the offset."""
    content = {"user_id": user, "item_id": f"i{offset}", "behavior_type": 1, "time": time} | fields
    return Record(user.encode(), json.dumps(content).encode(), offset, partition)


def forget(offset: int, user: str = "u") -> Record:
    """Return the record that asks to forget a user."""
    return Record(user.encode(), None, offset, 0, ((FORGET_HEADER, b"1"),))


class World:
    """One partition's topic, of which `committed` records are committed, and its changelog."""

    def __init__(
        self, records: Sequence[Record], committed: int | None = None, *, sample: int = 0, first: int = 0
    ) -> None:
        """`first`: how many of the records retention has deleted; a worker has folded them all the same."""
        end = len(records) if committed is None else committed
        self.records = records
        self.committed = [each for each in records[first:] if each.offset() < end]
        self.later = [each for each in records if each.offset() >= end]
        ends = OffsetRange({0: first, 1: 0}, {0: end, 1: 0})
        nothing = OffsetRange({}, {})
        self.extent = Extent(TOPIC_ID, ends, len(self.later), nothing, nothing)
        self.sample = UserSample(sample)
        decoder = make_decoder("", "")
        self.expected = ExpectedUsers(TOPIC_ID, decoder, LIMITS, self.sample)
        self.expected.read_committed(self.committed, NOW_MS)
        self.stored = StoredWindows(TOPIC_ID, self.expected.users, self.sample)
        self.findings = Findings()

    def worker(self, until: int, first: int = 0) -> dict[bytes, bytes]:
        """Return what windows a worker holds that has folded the records from `first` to before `until`."""
        partition = Partition(TOPIC_ID, 0, LIMITS, lambda keys: [None] * len(keys))
        for record in self.records[first:until]:
            partition.apply(read_records([record], make_decoder("", ""), f"{TOPIC_ID}/0"))
        return dict(partition.snapshot().values)

    def store(self, windows: dict[bytes, bytes]) -> None:
        """Have the changelog hold these windows."""
        for key, value in windows.items():
            self.stored.read(Record(key, value))

    def check(self, vectors_at: Mapping[bytes, int] | None = None) -> WindowCheck:
        """Read on, also to the offsets that users' vectors know, and check all windows."""
        wanted = {key: {read_offset(value)} for key, value in self.stored.values.items()}
        for key, offset in (vectors_at or {}).items():
            wanted.setdefault(key, set()).add(offset)
        self.expected.want(wanted, self.extent.events.ends)
        self.expected.read_on(self.later, NOW_MS)
        self.expected.finish()
        check = WindowCheck(self.extent, self.stored, self.expected, LIMITS.horizon_ms, True, self.findings)
        for key, user in self.expected.users.items():
            check.check(key, user)
        check.check_strangers()
        return check
