"""Which users' windows `stream.repartition` has moved away from a partition, and since when.

The group's offsets may expire (`offsets.retention.minutes`, workers that stood still for a week): then all
of the topic is read again. A window knows by itself which events it holds, but only of the partition that it
is kept with: at the old place of a user who moved there is none, and their events would make a second one.
So what a repartition did stands in a topic beside the changelog, for ever.
"""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from models.errors import TwintideError
from stream.kafka.connection import KafkaConnection
from stream.kafka.partitioner import partition_of
from stream.kafka.producer import AcknowledgedProducer
from stream.kafka.topic_reader import read_all
from stream.kafka.topics import CHANGELOG_SETTINGS, ensure_topic

#: How long Kafka has to take what is written down (s).
DELIVERY_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Move:
    """Users have been where murmur2 puts them among so many partitions since these ends of the old ones."""

    topic_id: str
    partitions: int
    ends: Mapping[int, int]

    def has_taken(self, key: bytes, partition: int, offset: int) -> bool:
        """Return whether the event at this place was read before, and its user's window is elsewhere."""
        return offset < self.ends.get(partition, 0) and partition_of(key, self.partitions) != partition


@dataclass(frozen=True, slots=True)
class Moves:
    """All moves of a topic's users so far."""

    moves: Sequence[Move] = ()

    def left_out(self, partition: int) -> "Callable[[bytes | None, int], bool] | None":
        """Return what says of key and offset whether a record of a partition is a moved user's.

        None where none can be.
        """
        moves = [move for move in self.moves if partition in move.ends]
        if not moves:
            return None
        return lambda key, offset: any(move.has_taken(key or b"", partition, offset) for move in moves)


def moves_topic(changelog: str) -> str:
    """Return the name of the topic that says what has been moved."""
    return f"{changelog}-moves"


def write_move(kafka: KafkaConnection, changelog: str, move: Move, replicas: int = -1) -> None:
    """Write a move down; one to as many partitions that is there already is replaced. Raises PublishError."""
    topic = moves_topic(changelog)
    ensure_topic(kafka, topic, 1, CHANGELOG_SETTINGS, replicas)
    producer = AcknowledgedProducer(kafka, topic)
    key = f"{move.topic_id}/{move.partitions}"
    value = {"topic_id": move.topic_id, "partitions": move.partitions, "ends": move.ends}
    producer.send(topic, key.encode(), json.dumps(value).encode(), partition=0)
    asyncio.run(producer.delivered(DELIVERY_TIMEOUT_S))


def read_moves(kafka: KafkaConnection, changelog: str, topic_id: str) -> Moves:
    """Return the moves of the users of a topic; none of those of one before it of the same name."""
    topic = moves_topic(changelog)
    last = {record.key(): _read(topic, record.value() or b"") for record in read_all(kafka, topic)}
    return Moves([move for move in last.values() if move.topic_id == topic_id])


def _read(topic: str, value: bytes) -> Move:
    try:
        said = json.loads(value)
        ends = {int(partition): int(end) for partition, end in said["ends"].items()}
        return Move(str(said["topic_id"]), int(said["partitions"]), ends)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise TwintideError(
            f"topic {topic} says something that no `python -m stream.repartition` wrote: {value[:100]!r}"
        ) from error
