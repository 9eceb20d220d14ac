"""Which records are looked at: the newest of each partition of a topic, or the first lines of a JSON file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol

from models.errors import DataError, TwintideError
from models.log.content import open_text
from models.log.files import LogFile
from models.log.json_lists import part_numbers, unfolded
from models.log.sources import KeyPath
from stream.events.incoming import Record
from stream.kafka.connection import KafkaConnection
from stream.kafka.topic_reader import read_between
from stream.kafka.topics import begin_offsets, end_offsets, partition_counts


class PlacedRecord(Record, Protocol):
    """What is needed of a Kafka record (confluent_kafka.Message)."""

    def partition(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Sample:
    """Records, and where they are from; held: records of each partition of the topic, none of a file."""

    name: str
    records: Sequence[PlacedRecord]
    held: Mapping[int, int] = field(default_factory=dict)

    @property
    def is_topic(self) -> bool:
        """Return whether the records have keys, partitions and timestamps."""
        return bool(self.held)


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a file as a record without a key."""

    number: int
    text: bytes

    def key(self) -> bytes | None:
        return None

    def value(self) -> bytes | None:
        return self.text

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self.number

    def timestamp(self) -> tuple[int, int]:
        return 0, 0

    def headers(self) -> None:
        return None


@dataclass(frozen=True, slots=True)
class Part:
    """One of the events that a record tells of, as a record; `number` of them stand before it."""

    record: PlacedRecord
    text: bytes | None
    number: int

    def key(self) -> bytes | None:
        return self.record.key()

    def value(self) -> bytes | None:
        return self.text

    def partition(self) -> int:
        return self.record.partition()

    def offset(self) -> int:
        return self.record.offset()

    def timestamp(self) -> tuple[int, int]:
        return self.record.timestamp()

    def headers(self) -> Sequence[tuple[str, bytes]] | None:
        return self.record.headers()


def parts_of(records: Sequence[PlacedRecord], each_path: KeyPath) -> list[Part]:
    """Return the events that records tell of, each an element of the list at a path."""
    values, places = unfolded([record.value() for record in records], each_path)
    numbers = part_numbers(places).tolist()
    return [
        Part(records[place], value, number)
        for value, place, number in zip(values, places.tolist(), numbers, strict=True)
    ]


def sample_of_topic(kafka: KafkaConnection, topic: str, count: int) -> Sample:
    """Return the newest records of a topic, about as many of each partition; joins no group.

    Raises TwintideError where there is no topic or nothing in it.
    """
    if topic not in partition_counts(kafka):
        raise TwintideError(
            f"there is no topic {topic} at {kafka.bootstrap_servers}: name one by --topic, or by "
            "TWINTIDE_TOPIC"
        )
    begin, ends = begin_offsets(kafka, topic), end_offsets(kafka, topic)
    held = {partition: end - begin[partition] for partition, end in ends.items()}
    shares = _shares(held, count)
    first = {partition: ends[partition] - share for partition, share in shares.items()}
    records = [*read_between(kafka, topic, first, ends)]
    if not records:
        raise TwintideError(f"topic {topic} is empty: send some events, then there is something to check")
    return Sample(f"topic {topic}", records, held)


def _shares(held: Mapping[int, int], count: int) -> dict[int, int]:
    """Return how many of the records of each partition to take; those with less leave their share."""
    shares, left = {}, count
    for number, (partition, length) in enumerate(sorted(held.items(), key=lambda each: each[1])):
        shares[partition] = min(length, -(-left // (len(held) - number)))
        left -= shares[partition]
    return shares


def sample_of_file(file: LogFile, count: int) -> Sample:
    """Return the first lines of a file of JSON objects, a line each."""
    lines: list[bytes] = []
    rest = b""
    with file.open() as stream:
        text = open_text(file, stream)
        while len(lines) < count and (block := text.read(1 << 20)):
            *whole, rest = (rest + block).split(b"\n")
            lines += whole
    if len(lines) < count:
        lines.append(rest)
    records = [Line(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    if not records:
        raise DataError(f"{file.name}: there is no line in it")
    return Sample(file.name, [*islice(records, count)])
