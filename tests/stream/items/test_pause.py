"""A partition that is far ahead is not read on, and nobody takes it for read to its end meanwhile."""

import json
from typing import Any

import pytest

from stream.events.json_decoder import JsonDecoder
from stream.items import source
from stream.items.merge import Position
from stream.items.source import Source
from stream.kafka.connection import KafkaConnection
from stream.kafka.records import Records, records_of

NOW_MS = 1_700_000_000_000


class Record:
    """An event of a partition at an offset, of a time."""

    def __init__(self, partition: int, offset: int, time_ms: int) -> None:
        self.partition, self.number, self.time_ms = partition, offset, time_ms

    def key(self) -> bytes:
        return b"u"

    def value(self) -> bytes:
        event_id = f"{self.partition}:{self.number}"
        about = {"user_id": "u", "item_id": event_id, "behavior_type": 1, "time": self.time_ms}
        return json.dumps({**about, "event_id": event_id}).encode()

    def offset(self) -> int:
        return self.number

    def timestamp(self) -> tuple[int, int]:
        return 1, self.time_ms

    def headers(self) -> None:
        return None


class Fetches:
    """A fetcher whose next fetches bring these."""

    def __init__(self, fetches: list[dict[int, Records]]) -> None:
        self.fetches = fetches

    def fetch(self, *_: Any) -> dict[int, Records]:
        return self.fetches.pop(0) if self.fetches else {}

    def close(self) -> None: ...


def some(partition: int, times_ms: list[int], first: int = 0, end: int = -1) -> Records:
    return records_of(
        [Record(partition, first + place, time_ms) for place, time_ms in enumerate(times_ms)], end
    )


def read(reading: Source) -> list[str]:
    batches = [batch.events for batch in reading.read(0.0)]
    return [item for events in batches if events is not None for item in events.item.to_list()]


def test_order_does_not_depend_on_who_was_paused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "MAY_WAIT", 2)
    paused: list[list[int]] = []

    class Client:
        def assign(self, places: Any) -> None: ...
        def close(self) -> None: ...
        def pause(self, places: Any) -> None:
            paused.append([each.partition for each in places])

        resume = pause

    fetches = [
        {0: some(0, [NOW_MS, NOW_MS + 10, NOW_MS + 20], end=3), 1: some(1, [NOW_MS - 10])},
        {1: some(1, [NOW_MS + 40, NOW_MS + 60], first=1, end=3)},
        {0: some(0, [NOW_MS + 30, NOW_MS + 50], first=3, end=5)},
    ]
    monkeypatch.setattr(source, "assigned_consumer", lambda *_, **__: Client())
    monkeypatch.setattr(source, "fetcher_of", lambda *_: Fetches(fetches))
    positions = {0: Position(0, 0), 1: Position(0, 0)}
    about = KafkaConnection("nowhere:1"), "topic", "id", JsonDecoder({}), positions
    reading = Source(*about, clock=lambda: NOW_MS / 1000 + 60)
    assert read(reading) == ["1:0"]  # partition 0 has three events, and was told its end
    assert paused == [[0]]
    # While it was paused, partition 0 got more.
    assert read(reading) + read(reading) == ["0:0", "0:1", "0:2", "0:3", "1:1", "0:4", "1:2"]
    assert paused == [[0], [0]]
