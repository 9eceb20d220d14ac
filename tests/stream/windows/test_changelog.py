"""Who may write the changelog: on a real broker, whoever took a partition last."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator
from uuid import uuid4

import pytest

from stream.kafka.connection import KafkaConnection
from stream.kafka.producer import PublishError
from stream.kafka.topic_reader import read_all
from stream.kafka.topics import CHANGELOG_SETTINGS, delete_topic, end_offsets, ensure_topic
from stream.windows.changelog import AbandonedError, Changelog, FencedError

pytestmark = pytest.mark.integration

RECORD_BYTES = 1_048_588


@pytest.fixture
def topic(kafka: KafkaConnection) -> Iterator[str]:
    name = f"changelog-{uuid4().hex[:8]}"
    ensure_topic(kafka, name, 2, CHANGELOG_SETTINGS)
    yield name
    delete_topic(kafka, name)


@pytest.fixture
def worker(kafka: KafkaConnection, topic: str) -> Callable[[], Changelog]:
    return lambda: Changelog(kafka, f"app-{topic}", topic, RECORD_BYTES)


def values(kafka: KafkaConnection, topic: str, partition: int) -> list[tuple[bytes | None, bytes | None]]:
    found = read_all(kafka, topic)
    return [(each.key(), each.value()) for each in found if each.partition() == partition]


def run(test: Callable[[], Coroutine[None, None, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 120))


def test_rows_are_read_in_their_order_and_the_offset_is_that_of_the_end_of_their_transaction(
    kafka: KafkaConnection, topic: str, worker: Callable[[], Changelog]
) -> None:
    async def test() -> None:
        changelog = worker()
        await changelog.take([0, 1])
        ends = await changelog.write({0: [(b"u", None), (b"u", b"1")], 1: [(b"v", b"2")]}, 60)
        assert ends == {0: 2, 1: 1}
        assert await changelog.write({1: [(b"v", b"3")]}, 60) == {1: 3}

    run(test)
    assert end_offsets(kafka, topic) == {0: 3, 1: 4}
    assert values(kafka, topic, 0) == [(b"u", None), (b"u", b"1")]
    assert values(kafka, topic, 1) == [(b"v", b"2"), (b"v", b"3")]


def test_worker_whose_partition_was_taken_writes_nothing_more_of_it_and_its_others_go_on(
    kafka: KafkaConnection, topic: str, worker: Callable[[], Changelog]
) -> None:
    async def test() -> None:
        frozen, successor = worker(), worker()
        await frozen.take([0, 1])
        await frozen.write({0: [(b"u", b"first")]}, 60)
        await successor.take([0])
        await successor.write({0: [(b"u", b"successor's")]}, 60)
        with pytest.raises(FencedError, match=f"partition 0 of {topic} is another worker's"):
            await frozen.write({0: [(b"u", b"old copy")]}, 60)
        await frozen.write({1: [(b"v", b"its own")]}, 60)
        await successor.write({0: [(b"u", b"newest")]}, 60)

    run(test)
    assert values(kafka, topic, 0) == [(b"u", b"first"), (b"u", b"successor's"), (b"u", b"newest")]
    assert values(kafka, topic, 1) == [(b"v", b"its own")]


def test_what_a_worker_had_begun_when_it_died_is_seen_by_nobody_and_holds_its_successor_up_for_a_moment(
    kafka: KafkaConnection, topic: str, worker: Callable[[], Changelog]
) -> None:
    async def test() -> None:
        dead, successor = worker(), worker()
        await dead.take([0])
        producer = dead._producers[0]
        producer.begin_transaction()
        producer.produce(topic, b"half", b"u", 0)
        assert producer.flush(60) == 0
        before = time.monotonic()
        await successor.take([0])
        assert time.monotonic() - before < 30, "not until the transaction runs out of time"
        assert list(read_all(kafka, topic)) == []

    run(test)


def test_who_waits_for_a_write_is_let_go_when_partitions_are_given_away(
    topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        nowhere = Changelog(KafkaConnection("127.0.0.1:1"), "app", topic, RECORD_BYTES)
        monkeypatch.setattr(nowhere, "_take", lambda number: number)
        monkeypatch.setattr(nowhere, "_write", lambda *_: time.sleep(5))
        with pytest.raises(AbandonedError):
            await nowhere.write({0: [(b"u", b"1")]}, 60)
        await nowhere.take([0])
        waiting = asyncio.create_task(nowhere.write({0: [(b"u", b"1")]}, 60))
        await asyncio.sleep(0.2)
        nowhere.release()
        with pytest.raises(AbandonedError):
            await asyncio.wait_for(waiting, 3)

    run(test)


def test_record_that_the_topic_refuses_is_told_with_its_reason(
    kafka: KafkaConnection, topic: str, worker: Callable[[], Changelog]
) -> None:
    async def test() -> None:
        changelog = worker()
        await changelog.take([0])
        with pytest.raises(PublishError, match=f"of partition 0 of {topic}: .*too large"):
            await changelog.write({0: [(b"u", bytes(1 << 21)), (b"v", b"1")]}, 60)

    run(test)
    assert list(read_all(kafka, topic)) == []
