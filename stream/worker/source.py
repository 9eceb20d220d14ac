"""What the pipeline needs of the consumer that Faust drives, and of the topic that it reads."""

from dataclasses import dataclass
from typing import Protocol

from stream.events.incoming import Incoming
from stream.windows.assignment import Assignment


@dataclass(frozen=True, slots=True)
class Topic:
    """The behaviour topic as it is now: made again, it has another id."""

    name: str
    topic_id: str
    partitions: int


@dataclass(frozen=True, slots=True)
class FetchedBatch:
    """What one fetch brought for one partition of the behaviour topic."""

    incoming: Incoming
    #: For which it was fetched; when that is over, its records come again.
    assignment: Assignment
    #: 0, 1, 2, ... within a partition and an assignment: a missing number is a lost batch.
    number: int


class Source(Protocol):
    """Reads the behaviour topic and commits its offsets (consumer.py)."""

    async def perform_seek(self) -> None:
        """Read again from the committed offsets, which begins another assignment."""

    async def commit(self) -> bool:
        """Commit what `Assignment.committable` says."""

    def lag(self, partition: int, position: int) -> int:
        """Return how many events of a partition come after a position."""
