"""The canary: who its users are, at what time their events happen, and what it takes for readable or lost."""

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import redis

from models.errors import SettingsError
from models.events import CANARY_PREFIX, Event
from stream.canary.canary import Canary, CanarySettings
from stream.canary.encoding import make_encoder
from stream.canary.event_clock import EMPTY_MS, EventClock
from stream.canary.users import canary_users
from stream.canary.verdict import complaints, summary
from stream.events.decoder import make_decoder
from stream.kafka.partitioner import partition_of
from stream.settings import Settings

NOW_S = 1_700_000_000.0


class World:
    """Kafka and Redis as the canary sees them, with a clock that only tests move."""

    def __init__(self, partitions: int = 2) -> None:
        self.now_s = 100.0
        self.records: list[tuple[int, Any]] = []
        self.takes_records = True
        self.known: dict[str, tuple[int, str]] = {}
        self.redis_error: Exception | None = None
        settings = Settings()
        decoder = make_decoder("", "")
        users = canary_users("x", partitions)
        self.users = users
        self.canary = Canary(
            CanarySettings("events", tuple(users), "run", every_s=1.0, lost_after_s=10.0),
            self,
            self,  # type: ignore[arg-type]
            make_encoder(settings, decoder, ""),
            EventClock(lambda: 0),
            timer=lambda: self.now_s,
        )

    def produce(self, topic: str, value: bytes, key: bytes, partition: int, **options: Any) -> None:
        self.records.append((partition, options["on_delivery"]))

    def poll(self, timeout_s: float) -> None:
        """Tell the canary where its records stand: the first at offset 0 of its partition."""
        if self.takes_records:
            for number, (partition, report) in enumerate(self.records):
                offset = sum(before == partition for before, _ in self.records[:number])
                report(None, SimpleNamespace(offset=lambda offset=offset: offset))

    def read(self, user_ids: list[str]) -> list[SimpleNamespace]:
        if self.redis_error:
            raise self.redis_error
        answers = [self.known.get(user_id, (99, "cold_start")) for user_id in user_ids]
        return [SimpleNamespace(seq=seq, reason=reason) for seq, reason in answers]

    def pass_s(self, seconds: float, is_sending: bool = False) -> None:
        self.now_s += seconds
        self.canary.step(is_sending)


@pytest.mark.parametrize("partitions", [1, 3, 64])
def test_every_partition_has_a_user_of_its_own(partitions: int) -> None:
    users = canary_users("a name", partitions)
    assert [partition_of(user.encode(), partitions) for user in users] == list(range(partitions))
    assert all(user.startswith(CANARY_PREFIX) for user in users)
    assert not set(users) & set(canary_users("another", partitions))


def test_event_is_readable_when_a_vector_of_the_users_own_knows_it() -> None:
    world = World(partitions=1)
    world.canary.step(is_sending=True)
    (user,) = world.users
    for known in ((99, "cold_start"), (99, "other_model"), (-1, "")):  # stand-ins, and a vector of before
        world.known[user] = known
        world.pass_s(0.1)
    assert world.canary.found.readable == 0
    world.known[user] = (0, "long")
    world.pass_s(0.1)
    assert world.canary.found.seconds[0] == pytest.approx(0.4)
    assert complaints(world.canary.found, 500) == []
    assert "99 % of the events were readable after 400 ms, not 300 ms" in complaints(world.canary.found, 300)
    assert "sent=1 readable=1 lost=0 refused=0 p50_ms=400" in summary(world.canary.found, 1)


def test_partitions_take_turns_and_one_that_nobody_reads_is_named() -> None:
    world = World()
    world.known[world.users[0]] = (99, "")
    for _ in range(40):
        world.pass_s(0.1, is_sending=True)
    assert [partition for partition, _ in world.records] == [0, 1] * 4
    world.pass_s(20)
    found = world.canary.found
    assert (found.readable, found.lost, found.refused) == (4, {1: 4}, {})
    assert complaints(found, None) == ["4 events were never readable, of partitions 1"]
    assert not world.canary.is_waiting


def test_what_kafka_does_not_take_and_redis_does_not_give_is_said_and_fails() -> None:
    world = World(partitions=1)
    world.takes_records = False
    world.canary.step(is_sending=True)
    world.pass_s(20)
    assert world.canary.found.refused == {0: 1}
    world = World(partitions=1)
    world.redis_error = redis.ConnectionError("refused")
    world.canary.step(is_sending=True)
    world.pass_s(20)
    assert complaints(world.canary.found, None) == [
        "1 events were never readable, of partitions 0",
        "no event was ever readable",
        "Redis gives no vectors: refused",
    ]


def test_event_time_follows_the_topic_and_is_never_ahead_of_the_clock() -> None:
    newest, now = [0], [0.0]
    clock = EventClock(lambda: newest[0], wall_clock=lambda: NOW_S, timer=lambda: now[0])
    assert clock.now_ms() == EMPTY_MS
    newest[0] = 1_417_000_000_000
    clock.follow()
    now[0] = 2.5
    assert clock.now_ms() == 1_417_000_002_500
    newest[0] = 1_416_000_000_000  # late events at the topic's end
    clock.follow()
    assert clock.now_ms() == 1_417_000_002_500
    newest[0] = int(NOW_S * 1000) + 5_000_000
    clock.follow()
    assert clock.now_ms() == NOW_S * 1000


def test_events_are_written_as_the_workers_read_them_or_refused() -> None:
    settings = Settings(event_fields="user_id=uid,time=ts")
    encoder = make_encoder(settings, make_decoder(settings.event_fields, ""), "")
    assert b'"uid":"u"' in encoder(Event("u", "i", 1, 1))
    with pytest.raises(SettingsError, match="--event-encoder"):
        make_encoder(Settings(), make_decoder("", "json:loads"), "")
    with pytest.raises(SettingsError, match="cannot be loaded"):
        make_encoder(Settings(), make_decoder("", ""), "json:nothing")
    assert make_encoder(Settings(), make_decoder("", ""), "msgspec.json:encode") is msgspec.json.encode
