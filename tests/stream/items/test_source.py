"""The topic as one order of events: by librdkafka's C interface it is as by confluent-kafka's messages."""

import json
import random
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from confluent_kafka import Producer

from models.errors import UnreachableError
from models.events import CANARY_PREFIX
from stream.events.incoming import FORGET_HEADER, FORGET_ITEM_HEADER
from stream.events.json_decoder import JsonDecoder
from stream.items import source
from stream.items.merge import Position
from stream.items.source import Source
from stream.kafka.connection import KafkaConnection
from stream.kafka.fetcher import ColumnFetcher, MessageFetcher, fetcher_of
from stream.kafka.topics import delete_topic, end_offsets, ensure_topic

pytestmark = pytest.mark.integration

PARTITIONS, START_MS = 3, 1_700_000_000_000
FIRST_S = START_MS / 1_000 - 60
#: What a record may be, and how often.
KINDS = {"event": 400, "canary": 12, "malformed": 4, "tombstone": 4, "user": 6, "item": 6}


@dataclass
class Topic:
    """A topic, and what its records say by (clock, partition, offset); nothing where they say nothing."""

    kafka: KafkaConnection
    name: str
    chance: random.Random = field(default_factory=lambda: random.Random(7))
    said: dict[tuple[int, int, int], tuple[Any, ...]] = field(default_factory=dict)
    malformed: int = 0
    now_ms: int = START_MS

    def __post_init__(self) -> None:
        ensure_topic(self.kafka, self.name, PARTITIONS)
        self._producer = Producer({**self.kafka.librdkafka(), "transactional.id": self.name})
        self._producer.init_transactions(60)
        self.clock = dict.fromkeys(range(PARTITIONS), 0)

    def send(self, count: int, is_kept: bool = True) -> None:
        """Send records; those that are not kept leave nothing but a gap in the offsets."""
        self._producer.begin_transaction()
        for _ in range(count):
            self.now_ms += self.chance.randrange(3)
            (kind,) = self.chance.choices([*KINDS], [*KINDS.values()])
            # The last partition gets little: the others are far ahead of it.
            (partition,) = self.chance.choices(range(PARTITIONS), [10, 8, 1])
            late_ms = self.chance.choice([0, 0, 0, 700])
            self._produce(kind, partition, self.now_ms - late_ms, is_kept)
        self._producer.flush(60)
        self._producer.commit_transaction(60) if is_kept else self._producer.abort_transaction(60)

    def _produce(self, kind: str, partition: int, time_ms: int, is_kept: bool) -> None:
        user = f"{CANARY_PREFIX if kind == 'canary' else ''}ü{self.chance.randrange(50)}"
        item, number = f"i{self.chance.randrange(30)}", self.chance.randrange(10**9)
        values = {
            "user_id": user,
            "item_id": item,
            "behavior_type": 1,
            "time": time_ms,
            "event_id": str(number),
        }
        value: bytes | None = json.dumps(values).encode()
        says: tuple[Any, ...] | None = None
        headers: list[tuple[str, bytes | None]] = []
        match kind:
            case "event":
                says = "event", user, item, time_ms
            case "canary" if number % 3 == 0:
                value = b"not counted"
            case "malformed":
                value = b"{" * (number % 4)
            case "tombstone":
                value, headers = None, [("other", b"1")]
            case "user" | "item":
                says = kind, user if kind == "user" else item
                name = FORGET_HEADER if kind == "user" else FORGET_ITEM_HEADER
                value, headers = None, [("other", b""), (name, None if number % 2 else b"1")]
        key = says[1] if says and says[0] in ("user", "item") else user

        def note(error: Any, message: Any) -> None:
            assert error is None or not is_kept
            if is_kept:
                clock = self.clock[partition] = max(self.clock[partition], time_ms)
                self.malformed += kind in ("malformed", "tombstone")
                if says:
                    self.said[clock, partition, message.offset()] = says

        about = {"on_delivery": note, "timestamp": time_ms, "headers": headers}
        self._producer.produce(self.name, value, key.encode(), partition, **about)

    def expected(self) -> list[tuple[Any, ...]]:
        return [self.said[place] for place in sorted(self.said)]


@pytest.fixture
def topic(kafka: KafkaConnection) -> Iterator[Topic]:
    made = Topic(kafka, f"test-source-{uuid.uuid4().hex[:8]}")
    yield made
    delete_topic(kafka, made.name)


def read_to_end(reading: Source, topic: Topic, paused: set[int] | None = None) -> list[tuple[Any, ...]]:
    """Return what is read until all of the topic is given, in its order; note what was paused.

    Nothing is taken for late while the wall clock stands before it: it moves once all records are there.
    """
    found: list[tuple[Any, ...]] = []
    reading._clock = lambda: FIRST_S
    last = end_offsets(topic.kafka, topic.name)
    behind = dict[int, int]()
    for _ in range(3_000):
        for batch in reading.read(0.05):
            if batch.control:
                found.append((batch.control.kind, batch.control.id))
            if batch.events is None:
                continue
            events = batch.events
            users = [batch.user_ids[number] for number in events.user.tolist()]
            items = events.item.to_list()
            found += [("event", *each) for each in zip(users, items, events.time_ms.tolist(), strict=True)]
        if all(reading._merge.newest_ms(partition) == newest for partition, newest in topic.clock.items()):
            reading._clock = lambda: FIRST_S + 86_400
        if paused is not None:
            paused |= reading._paused
        # Behind the last record stands what ends its transaction.
        behind = {partition: place.offset for partition, place in reading.positions.items()}
        if all(offset + 1 >= last[partition] for partition, offset in behind.items()):
            return found
    raise AssertionError(f"it was not read to its end: {behind} of {last}")


@pytest.mark.parametrize("make", [fetcher_of, MessageFetcher])
def test_order_is_that_of_clock_partition_and_offset_whatever_stands_between(
    topic: Topic, monkeypatch: pytest.MonkeyPatch, make: Callable[..., Any]
) -> None:
    monkeypatch.setattr(source, "fetcher_of", make)
    monkeypatch.setattr(source, "FETCH_RECORDS", 211)
    monkeypatch.setattr(source, "MAY_WAIT", 300)
    for is_kept in (True, False, True):
        topic.send(1_500, is_kept)
    positions = {partition: Position(0, 0) for partition in range(PARTITIONS)}
    reading = Source(topic.kafka, topic.name, "id", JsonDecoder({}), positions)
    assert isinstance(reading._fetcher, MessageFetcher if make is MessageFetcher else ColumnFetcher)
    paused = set[int]()
    first = read_to_end(reading, topic, paused)
    assert paused  # what is far ahead was not read on, and then it was
    assert first == topic.expected()
    middle = reading.positions
    topic.now_ms += 10_000
    topic.send(400)  # records after the end that was told
    rest = read_to_end(reading, topic)
    assert first + rest == topic.expected()
    assert reading.rejected == topic.malformed > 10
    kinds = {kind for kind, *_ in first + rest}
    assert kinds == {"event", "user", "item"}
    reading.close()
    again = Source(topic.kafka, topic.name, "id", JsonDecoder({}), middle)
    assert read_to_end(again, topic) == rest
    assert again.positions == reading.positions
    again.close()


def test_lag_is_not_known_at_first_and_then_none_is_left_behind_a_transaction(topic: Topic) -> None:
    topic.send(50)
    topic.send(50, is_kept=False)
    reading = Source(topic.kafka, topic.name, "id", JsonDecoder({}), dict.fromkeys(range(3), Position(0, 0)))
    assert reading.lag() is None  # and no 0, at which nobody has read anything
    read_to_end(reading, topic)
    for _ in range(600):
        if reading.lag() == 0:
            break
        assert [*reading.read(0.1)] == []
    assert {each: place.offset for each, place in reading.positions.items()} == end_offsets(
        topic.kafka, topic.name
    )
    reading.close()


class NoRegistry(JsonDecoder):
    """A decoder whose registry is down."""

    def columns(self, values: Any) -> Any:
        raise UnreachableError("it is down")


def test_source_is_closed_although_what_it_could_not_read_is_still_held(topic: Topic) -> None:
    topic.send(50)
    reading = Source(topic.kafka, topic.name, "id", NoRegistry({}), {0: Position(0, 0)})
    with pytest.raises(UnreachableError) as held:
        for _ in range(600):
            assert not [*reading.read(0.1)]
    frames = [each.frame.f_locals for each in held.traceback]
    assert any("records" in of_frame for of_frame in frames)
    reading.close()  # librdkafka would wait for them for ever
