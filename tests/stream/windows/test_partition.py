"""A partition's fold: what becomes of records, what is dirty, what may be committed."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import pytest

from models.windows.window import WindowSettings, window_from_bytes
from stream.events.decoder import Decoder, make_decoder
from stream.events.incoming import FORGET_HEADER, Rejected, read_records
from stream.kafka.partitioner import partition_of
from stream.windows.moves import Move, Moves
from stream.windows.partition import Partition

DECODER = make_decoder("", "")


@dataclass(frozen=True)
class Record:
    """As much of a Kafka record as the fold asks for."""

    at: int
    of: bytes | None
    holds: bytes | None
    with_headers: Sequence[tuple[str, bytes]] = ()

    def offset(self) -> int:
        return self.at

    def key(self) -> bytes | None:
        return self.of

    def value(self) -> bytes | None:
        return self.holds

    def timestamp(self) -> tuple[int, int]:
        return 1, self.at

    def headers(self) -> Sequence[tuple[str, bytes]]:
        return self.with_headers


def fold_records(
    fold: Partition, records: Sequence[Record], decoder: Decoder = DECODER
) -> tuple[dict[str, int], list[Rejected]]:
    """Read the records and fold them; return counts by outcome, and what is unreadable."""
    incoming = read_records(records, decoder, f"{fold.topic_id}/{fold.partition}")
    return fold.apply(incoming), incoming.rejected


def record(offset: int, key: str = "u", **changes: object) -> Record:
    event = {"event_id": f"e{offset}", "user_id": key, "item_id": f"i{offset}", "behavior_type": 1}
    event |= {"item_category": "c", "time": 1000 + offset, **changes}
    sent = [("sent_at", str(5000 + offset).encode())]
    return Record(offset, key.encode(), msgspec.json.encode(event), sent)


class Stored:
    """What the table holds, and how often it was asked."""

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}
        self.asked: list[bytes] = []

    def load(self, keys: Sequence[bytes]) -> list[bytes | None]:
        self.asked += keys
        return [self.values.get(key) for key in keys]


@pytest.fixture
def stored() -> Stored:
    return Stored()


@pytest.fixture
def fold(stored: Stored) -> Partition:
    return Partition("topic-id", 0, WindowSettings(), stored.load)


def test_events_reach_their_users_windows(fold: Partition) -> None:
    counts, rejected = fold_records(fold, [record(0, "a"), record(1, "b"), record(2, "a")])
    assert (counts["applied"], rejected) == (3, [])
    assert window_from_bytes(fold.window("a")).item_ids == ["i0", "i2"]
    assert fold.position == 3


def test_ids_that_are_numbers_are_the_same_as_strings(fold: Partition) -> None:
    records = [record(0, "7", user_id=7, item_id=5, event_id=1), record(1, "7", item_id="5", event_id="2")]
    fold_records(fold, records)
    assert window_from_bytes(fold.window("7")).item_ids == ["5", "5"]


@pytest.mark.parametrize(
    ("reason", "bad"),
    [
        ("unreadable", Record(1, b"u", b"not json")),
        ("unreadable", Record(1, b"u", None)),
        ("unreadable", Record(1, b"u", b"[1]")),
        ("unreadable", record(1, time="yesterday")),
        ("behaviour", record(1, behavior_type=9)),
        ("time", record(1, time=0)),
        ("time", record(1, time=4_102_444_800_000)),
        ("seconds", record(1, time=1_764_367_200)),
        ("seconds", record(1, time=1_417_000_000)),
        ("microseconds", record(1, time=1_764_367_200_000_000)),
        ("nanoseconds", record(1, time=1_417_000_000_000_000_000)),
        ("time", record(1, time=10**16)),
        ("no_user", record(1, "", user_id="")),
        ("no_item", record(1, item_id="")),
        ("long_id", record(1, item_category="c" * 65_536)),
        ("behaviour", record(1, behavior_type=2**70)),
        ("unreadable", Record(1, b"u", b"5")),
        ("key", Record(1, b"another", record(1).value())),
        ("key", Record(1, None, record(1).value())),
    ],
)
def test_unreadable_event_is_rejected_with_its_reason(fold: Partition, reason: str, bad: Record) -> None:
    counts, rejected = fold_records(fold, [record(0), bad, record(2)])
    assert [(each.record, each.reason) for each in rejected] == [(bad, reason)]
    assert counts["applied"] == 2
    assert fold.position == 3


def test_event_without_id_is_itself_alone(fold: Partition) -> None:
    records = [record(0, event_id=None, time=1000), record(1, event_id=None, time=1000)]
    assert fold_records(fold, records)[0]["applied"] == 2
    assert fold_records(fold, records)[0]["redelivered"] == 2


def test_redelivered_user_is_dirty_all_the_same(fold: Partition, stored: Stored) -> None:
    fold_records(fold, [record(0)])
    stored.values = dict(fold.snapshot().values)
    again = Partition("topic-id", 0, WindowSettings(), stored.load)  # as after a crash before the write
    assert fold_records(again, [record(0)])[0]["redelivered"] == 1
    assert list(again.dirty) == ["u"]
    assert not again.snapshot().values


def test_duplicate_and_late_events_make_nobody_dirty(fold: Partition) -> None:
    fold_records(fold, [record(0)])
    fold.take(10)
    old = record(2, time=1)
    settings_horizon_passed = record(1, time=1000 + 31 * 86_400_000)
    counts, _ = fold_records(fold, [settings_horizon_passed, old, record(3, event_id="e1")])
    assert (counts["late"], counts["duplicate"]) == (1, 1)
    assert fold.dirty["u"].first_offset == 1
    fold.take(10)
    assert fold_records(fold, [record(4, event_id="e1")])[0] == {"duplicate": 1}
    assert not fold.dirty


def test_nothing_is_committable_before_the_checkpoint(fold: Partition) -> None:
    fold_records(fold, [record(0), record(1)])
    for user_id in fold.take(10):
        fold.in_flight.pop(user_id)
    assert fold.committable() < 0
    fold.durable_position = fold.snapshot().position
    assert fold.committable() == 2


def test_commit_waits_for_the_oldest_unwritten_user(fold: Partition) -> None:
    fold_records(fold, [record(0, "a"), record(1, "b"), record(2, "a")])
    fold.durable_position = fold.position
    assert fold.committable() == 0
    (first,) = fold.take(1)
    assert (first, fold.committable()) == ("a", 0)
    fold.in_flight.pop("a")
    assert fold.committable() == 1
    fold.take(1)
    fold_records(fold, [record(3, "a")])
    assert fold.committable() == 1
    fold.in_flight.pop("b")
    assert fold.committable() == 3


def test_user_that_changes_while_in_flight_is_dirty_again(fold: Partition) -> None:
    fold_records(fold, [record(0)])
    fold.take(1)
    fold_records(fold, [record(1)])
    assert fold.dirty["u"].first_offset == 1
    assert fold.in_flight["u"].first_offset == 0


def test_send_times_of_coalesced_events_are_all_kept(fold: Partition) -> None:
    fold_records(fold, [record(0), record(1)])
    assert (fold.dirty["u"].sent_at_ms, fold.dirty["u"].events) == ([5000, 5001], 2)


def test_snapshot_holds_what_changed_since_the_last(fold: Partition) -> None:
    fold_records(fold, [record(0, "a"), record(1, "b")])
    assert set(fold.snapshot().values) == {b"a", b"b"}
    fold_records(fold, [record(2, "b")])
    snapshot = fold.snapshot()
    assert snapshot.position == 3
    assert window_from_bytes(snapshot.values[b"b"]).item_ids == ["i1", "i2"]
    assert set(snapshot.values) == {b"b"}


def test_trim_forgets_stored_windows_and_never_changed_ones(fold: Partition, stored: Stored) -> None:
    fold_records(fold, [record(n, f"u{n}") for n in range(4)])
    stored.values = dict(fold.snapshot().values)
    fold_records(fold, [record(4, "u0")])
    stored.asked.clear()
    fold.trim(keep=1)
    assert window_from_bytes(fold.window("u0")).item_ids == ["i0", "i4"]
    assert stored.asked == []
    assert window_from_bytes(fold.window("u1")).item_ids == ["i1"]
    assert stored.asked == [b"u1"]


def test_other_field_names_are_read_through_a_mapping(fold: Partition) -> None:
    decoder = make_decoder("user_id=uid,item_id=sku,time=ts,behavior_type=kind", "")
    value = msgspec.json.encode({"uid": "u", "sku": 9, "ts": 1234, "kind": 4})
    assert fold_records(fold, [Record(0, b"u", value)], decoder)[0]["applied"] == 1
    assert (window_from_bytes(fold.window("u")).item_ids, window_from_bytes(fold.window("u")).times_ms) == (
        ["9"],
        [1234],
    )


def forget(offset: int, key: str = "u") -> Record:
    return Record(offset, key.encode(), None, [(FORGET_HEADER, b"1")])


def test_forgotten_user_leaves_a_tombstone_and_is_dirty_until_redis_knows(fold: Partition) -> None:
    fold_records(fold, [record(0), record(1, "v")])
    fold.snapshot()
    counts, rejected = fold_records(fold, [record(2), forget(3)])
    assert (counts, rejected) == ({}, [])
    assert len(window_from_bytes(fold.window("u"))) == 0
    snapshot = fold.snapshot()
    assert (snapshot.position, snapshot.values, snapshot.tombstones) == (4, {}, [b"u"])
    fold.durable_position = 4
    assert fold.committable() == 0  # the vectors of the first two events are not written either
    fold.take(10)
    del fold.in_flight["v"]
    fold.in_flight.pop("u")
    assert fold.committable() == 4


def test_commit_waits_until_redis_knows_who_is_forgotten(fold: Partition, stored: Stored) -> None:
    fold_records(fold, [record(4, "v"), forget(5), record(6, "w")])
    fold.durable_position = 7
    fold.take(1)
    fold.in_flight.clear()
    assert fold.committable() == 5


def test_events_before_that_come_again_do_not_bring_a_forgotten_user_back(fold: Partition) -> None:
    again = [record(0), record(1), forget(2)]
    fold_records(fold, again)
    fold_records(fold, again[:2])
    assert len(window_from_bytes(fold.window("u"))) == 0
    fold_records(fold, again)
    assert len(window_from_bytes(fold.window("u"))) == 0


def test_user_who_comes_back_has_a_new_window_after_the_tombstone(fold: Partition) -> None:
    fold_records(fold, [record(0)])
    fold_records(fold, [record(1), forget(2), record(3), record(4)])
    snapshot = fold.snapshot()
    assert snapshot.tombstones == [b"u"]
    assert window_from_bytes(snapshot.values[b"u"]).item_ids == ["i3", "i4"]


def test_forgetting_that_comes_again_leaves_later_events(fold: Partition, stored: Stored) -> None:
    fold_records(fold, [forget(2), record(3)])
    stored.values.update(fold.snapshot().values)
    after_a_crash = Partition("topic-id", 0, WindowSettings(), stored.load)
    fold_records(after_a_crash, [record(0), record(1), forget(2)])
    assert window_from_bytes(after_a_crash.window("u")).item_ids == ["i3"]
    assert after_a_crash.snapshot().tombstones == []


def test_null_without_the_header_is_no_request_to_forget(fold: Partition) -> None:
    fold_records(fold, [record(0)])
    _, rejected = fold_records(fold, [Record(1, b"u", None, [("trace", b"1")])])
    assert [each.reason for each in rejected] == ["unreadable"]
    assert len(window_from_bytes(fold.window("u"))) == 1


@pytest.mark.parametrize("names", [["a", "b", "c"], ["a"], ["b"]], ids=["some", "one", "other"])
def test_users_who_moved_away_are_left_out_of_what_was_read_before(fold: Partition, names: list[str]) -> None:
    at = {name: partition_of(name.encode(), 7) for name in names}
    moves = Moves([Move("topic-id", 7, {fold.partition: 6}), Move("topic-id", 9, {5: 100})])
    records = [record(offset, names[offset % len(names)]) for offset in range(9)]
    has_moved = moves.left_out(fold.partition)
    incoming = read_records(records, DECODER, "topic-id/0", has_moved)
    stayed = [each for each in records if each.at >= 6 or at[(each.of or b"").decode()] == fold.partition]
    assert incoming.position == 9
    assert incoming.events.offset.tolist() == [each.at for each in stayed]
    assert incoming.moved == 9 - len(stayed) > 0 and incoming.records == 9
    assert read_records(records[:1], DECODER, "", lambda *_: True).events.offset.tolist() == []
    assert fold.apply(read_records(records[:1], DECODER, "", lambda *_: True)) == {}
    assert moves.left_out(fold.partition + 1) is None
