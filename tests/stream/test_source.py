"""Fetching ahead: nothing is lost to a reader who gives up, nothing old comes after an assignment."""

import asyncio
import threading
from typing import Any

import pytest

from stream.connections import KafkaConnection
from stream.source import RecordSource


class Fetches:
    """Fetches that bring 0, 1, 2, ..., each as soon as it is let go."""

    def __init__(self) -> None:
        self.begun = 0
        self.is_free = threading.Event()
        self.is_free.set()

    def __call__(self, timeout_s: float) -> dict[int, Any]:
        number, self.begun = self.begun, self.begun + 1
        assert self.is_free.wait(10)
        return {0: number}


@pytest.fixture
def fetches() -> Fetches:
    return Fetches()


@pytest.fixture
def source(fetches: Fetches, monkeypatch: pytest.MonkeyPatch) -> RecordSource:
    made = RecordSource(KafkaConnection("127.0.0.1:1"), "topic", 10, lambda partition, records: None)  # type: ignore[arg-type, return-value]
    monkeypatch.setattr(made, "_fetch", fetches)
    return made


def test_batches_come_in_order_and_the_next_is_fetched_meanwhile(
    source: RecordSource, fetches: Fetches
) -> None:
    async def read_three() -> list[Any]:
        return [(await source.read(1))[0] for _ in range(3)]

    assert asyncio.run(read_three()) == [0, 1, 2]
    assert fetches.begun >= 3


def test_what_a_reader_who_gave_up_had_asked_for_goes_to_the_next(
    source: RecordSource, fetches: Fetches
) -> None:
    async def give_up_and_read() -> Any:
        fetches.is_free.clear()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await source.read(1)
        fetches.is_free.set()
        return (await source.read(1))[0]

    assert asyncio.run(give_up_and_read()) == 0


def test_nothing_fetched_before_an_assignment_comes_after_it(source: RecordSource, fetches: Fetches) -> None:
    async def assign_between() -> Any:
        await source.read(1)
        await source.assign({0: 5})
        begun = fetches.begun
        return (await source.read(1))[0] - begun

    assert asyncio.run(assign_between()) == 0
