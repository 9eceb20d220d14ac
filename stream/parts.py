"""What the fast lane drives and is driven by."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from models.window import WindowSettings
from stream.encoder import Encoder
from stream.publisher import Publisher
from stream.store import Store, UserRow
from stream.table import WindowTable


class Source(Protocol):
    """What the lane needs of the consumer."""

    seek_count: int

    async def perform_seek(self) -> None:
        """Go back to the committed offsets."""

    async def commit(self) -> bool:
        """Commit what `FastLane.committable` says."""

    def lag(self, partition: int, position: int) -> int:
        """Return how many events of a partition come after a position."""


@dataclass(frozen=True, slots=True)
class Topic:
    """The behaviour topic as it is now: made again, it has another id and a greater epoch."""

    name: str
    topic_id: str
    epoch: int


@dataclass(frozen=True, slots=True)
class Vectors:
    """What makes vectors of windows, and where they go."""

    encoder: Encoder
    store: Store

    def write(self, rows: Sequence[UserRow], forgotten: Sequence[tuple[str, int]], epoch: int) -> int:
        """Write the rows, delete forgotten users up to their offsets; return how many were written."""
        self.store.forget(forgotten, epoch)
        return self.store.upsert(rows)


@dataclass(frozen=True, slots=True)
class Parts:
    """What the lane drives; `vectors` is None for a worker that keeps windows alone."""

    topic: Topic
    window_settings: WindowSettings
    publisher: Publisher
    table: WindowTable
    vectors: Vectors | None
