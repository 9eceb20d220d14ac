"""Fetching ahead, where it pays: nothing is lost to who gives up, nothing old comes after an assignment."""

import asyncio
import threading
import time
from typing import Any

import pytest
from confluent_kafka import KafkaException, TopicPartition

from models.errors import UnreachableError
from stream.kafka import record_source
from stream.kafka.assigned_consumer import fetch
from stream.kafka.connection import KafkaConnection
from stream.kafka.fetcher import MessageFetcher
from stream.kafka.record_source import RecordSource
from stream.kafka.records import Records, records_of


class Record:
    """A record of partition 0 that is known by its number."""

    def __init__(self, number: int, size: int = 1) -> None:
        self.number = number
        self._size = size

    def __len__(self) -> int:
        return self._size

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self.number

    def error(self) -> None:
        return None

    def key(self) -> bytes:
        return b""

    def value(self) -> bytes:
        return b"%d" % self.number

    def timestamp(self) -> tuple[int, int]:
        return 1, 0

    def headers(self) -> None:
        return None


class Client:
    """A Kafka client whose fetches bring the records 0, 1, 2, ..., one each, as soon as it is let go."""

    def __init__(self) -> None:
        self.begun = 0
        self.begin = 0
        self.is_free = threading.Event()
        self.is_free.set()
        self.is_closed = False

    def poll(self, timeout_s: float) -> Record:
        number, self.begun = self.begun, self.begun + 1
        assert self.is_free.wait(60)
        return Record(number)

    def consume(self, count: int, timeout: float) -> list[Record]:
        return []

    def list_topics(self, topic: str, timeout: float) -> None:
        raise KafkaException("nobody knows")

    def get_watermark_offsets(
        self, place: TopicPartition, cached: bool = False, timeout: float = 0
    ) -> tuple[int, int]:
        assert threading.current_thread() is not threading.main_thread()  # would wait for a poll to return
        assert cached or timeout
        return self.begin, 100

    def assign(self, places: list[TopicPartition]) -> None:
        assert [each.offset for each in places] == [5]

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def client() -> Client:
    return Client()


@pytest.fixture
def source(client: Client, monkeypatch: pytest.MonkeyPatch) -> RecordSource[int]:
    made = RecordSource(
        KafkaConnection("127.0.0.1:1"),
        "topic",
        10,
        lambda partition, records: int(records.offsets[0]),
    )
    monkeypatch.setattr(made, "_consumer", client)
    monkeypatch.setattr(made, "_records", MessageFetcher(client, "topic"))
    return made


def test_batches_come_in_order(source: RecordSource[int]) -> None:
    async def read_three() -> list[Any]:
        return [(await source.read(1))[0] for _ in range(3)]

    assert asyncio.run(read_three()) == [0, 1, 2]


@pytest.mark.parametrize(("many", "fetched"), [(1, 2), (2, 1)])
def test_next_batch_is_fetched_before_anybody_asks_where_there_is_much_to_read(
    source: RecordSource[int], client: Client, monkeypatch: pytest.MonkeyPatch, many: int, fetched: int
) -> None:
    monkeypatch.setattr(record_source, "MANY_RECORDS", many)
    asyncio.run(source.read(1))
    source._fetcher.submit(lambda: None).result(60)  # behind a fetch that was begun
    assert client.begun == fetched


def test_what_a_reader_who_gave_up_had_asked_for_goes_to_the_next(
    source: RecordSource[int], client: Client
) -> None:
    async def give_up_and_read() -> Any:
        client.is_free.clear()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await source.read(1)
        client.is_free.set()
        return (await source.read(1))[0]

    assert asyncio.run(give_up_and_read()) == 0


def test_nothing_fetched_before_an_assignment_comes_after_it(
    source: RecordSource[int], client: Client
) -> None:
    async def assign_between() -> Any:
        await source.read(1)
        await source.assign({0: 5})
        begun = client.begun
        return (await source.read(1))[0] - begun

    assert asyncio.run(assign_between()) == 0


def test_lag_is_known_without_asking_the_client_which_may_be_busy(
    source: RecordSource[int], client: Client
) -> None:
    async def read_and_ask() -> int:
        await source.assign({0: 5})
        await source.read(1)
        return source.lag(0, 60)

    assert asyncio.run(read_and_ask()) == 40
    assert source.lag(1, 60) == 0


@pytest.mark.parametrize(
    ("begin", "lost"),
    [
        (
            0,
            [],
        ),  # the topic still begins before 5: what is missing there was compacted, or ends a transaction
        (7, [(0, 2)]),
        (12, [(0, 5)]),  # it went on after the first fetch
    ],
)
def test_events_that_the_topic_does_not_have_any_more_are_told_once(
    source: RecordSource[int], client: Client, monkeypatch: pytest.MonkeyPatch, begin: int, lost: list[Any]
) -> None:
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(source, "_on_overtaken", lambda *each: told.append(each))

    async def read_three() -> None:
        await source.assign({0: 5})
        client.begun, client.begin = 10, begin
        for _ in range(3):
            await source.read(1)

    asyncio.run(read_three())
    assert told == lost


def test_end_is_told_where_it_is_behind_what_was_read(
    source: RecordSource[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ends:
        """A partition that has the record 5 and, behind it, the end of its transaction."""

        def __init__(self) -> None:
            self._fetches = [([Record(5)], -1), ([], 6), ([], 7), ([], 7)]

        def fetch(self, *_: Any) -> dict[int, Records]:
            return {0: records_of(*self._fetches.pop(0))}

    monkeypatch.setattr(source, "_records", Ends())
    monkeypatch.setattr(source, "_read", lambda partition, records: records.position)

    async def read_all() -> list[Any]:
        await source.assign({0: 5})
        return [await source.read(1) for _ in range(4)]

    assert asyncio.run(read_all()) == [{0: 6}, {}, {0: 7}, {}]


def test_records_that_cannot_be_read_yet_are_read_again_until_they_can(
    source: RecordSource[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[int] = []

    def read(partition: int, records: Records) -> int:
        tries.append(int(records.offsets[0]))
        if len(tries) < 3:
            raise UnreachableError("the registry is down")
        return tries[-1]

    monkeypatch.setattr(record_source, "RETRY_S", 0.0)
    monkeypatch.setattr(source, "_read", read)

    async def read_all() -> list[Any]:
        found: list[Any] = []
        while len(found) < 2:
            batch = await source.read(1)
            assert source.waits_for == ("" if batch else "the registry is down")
            found += [*batch.values()]
        return found

    assert asyncio.run(read_all()) == [0, 1]
    assert tries.count(0) > 1 and set(tries) <= {0, 1, 2}


def test_source_is_closed_once_nobody_looks_at_what_it_fetched(
    source: RecordSource[int], client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_reading, said = threading.Event(), list[str]()

    def read(partition: int, records: Records) -> int:
        is_reading.set()
        time.sleep(0.1)
        said.append("read, and the client is " + ("closed" if client.is_closed else "open"))
        return 0

    class Fetcher(MessageFetcher):
        def close(self) -> None:
            said.append("records given back")

    monkeypatch.setattr(source, "_read", read)
    monkeypatch.setattr(source, "_records", Fetcher(client, "topic"))

    async def close_meanwhile() -> None:
        reading = asyncio.create_task(source.read(1))
        await asyncio.to_thread(is_reading.wait, 60)
        await source.close()
        await reading

    asyncio.run(close_meanwhile())
    assert said == ["read, and the client is open", "records given back"] and client.is_closed
    assert not any(each.is_alive() for of in (source._fetcher, source._reader) for each in of._threads)


@pytest.mark.parametrize(("size", "at_most", "found"), [(1, 4_000, 4_000), (10_000, 4_000, 1_001), (0, 7, 7)])
def test_batch_has_so_many_records_or_so_many_bytes(size: int, at_most: int, found: int) -> None:
    class Endless:
        def poll(self, timeout_s: float) -> Record:
            return Record(0, size)

        def consume(self, count: int, timeout: float) -> list[Record]:
            return [Record(0, size)] * count

    assert len(fetch(Endless(), at_most, 1.0, most_bytes=6_000_000)) == found
    assert len(fetch(Endless(), at_most, 1.0)) == at_most
