"""What the pipeline drives and is driven by."""

from dataclasses import dataclass
from typing import Protocol

from models.windows.window import WindowSettings
from stream.encoding.live_models import LiveModels
from stream.kafka.producer import AcknowledgedProducer
from stream.windows.table import WindowTable


class Source(Protocol):
    """What the pipeline needs of the consumer."""

    seek_count: int

    async def perform_seek(self) -> None:
        """Go back to the committed offsets."""

    async def commit(self) -> bool:
        """Commit what `Pipeline.committable` says."""

    def lag(self, partition: int, position: int) -> int:
        """Return how many events of a partition come after a position."""


@dataclass(frozen=True, slots=True)
class Topic:
    """The behaviour topic as it is now: made again, it has another id."""

    name: str
    topic_id: str


@dataclass(frozen=True, slots=True)
class Parts:
    """What the pipeline drives; `live_models` is None for a worker that keeps windows alone."""

    topic: Topic
    window_settings: WindowSettings
    publisher: AcknowledgedProducer
    table: WindowTable
    live_models: LiveModels | None
