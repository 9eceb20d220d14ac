"""What one worker knows of a rollout: who surely has which model, as of its last poll."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from stream.encoding.live_models import LiveModels
from stream.rollout.coverage import Coverage
from stream.store.registry_state import ChangeProgress, LiveModel
from stream.windows.assignment import Assignments

#: Seconds between two polls of what is published and which models are live.
POLL_EVERY_S = 1.0

#: The partition whose holder does what one worker does for all.
FIRST = 0


@dataclass(slots=True)
class RolloutState:
    """Shared by the follower, which polls, and by the backfill; used from the event loop alone."""

    live: LiveModels
    assignments: Assignments
    #: `Store.losses` as of the last poll.
    losses: int = field(init=False)
    coverage: Coverage = field(default_factory=Coverage)
    progress: ChangeProgress = field(default_factory=ChangeProgress)
    #: Versions of which cold-start users have their vector.
    with_cold_start: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.losses = self.live.store.losses

    def is_current(self) -> bool:
        """Return whether the last poll saw the assignment that the worker has, and all losses of Redis."""
        is_seen = self.coverage.assignment == self.assignments.current.number
        return is_seen and self.losses == self.live.store.losses

    def missing(self, partition: int) -> list[LiveModel]:
        """Return the loaded models that not all users of a partition surely have."""
        models = self.live.store.models
        if models is None:
            return []
        return self.coverage.missing(partition, models, self.progress.covered, self.progress.to_backfill)

    def is_whole(self) -> Mapping[int, bool]:
        """Return of each partition held whether all its users have all live models."""
        assignment = self.assignments.current
        return {} if assignment.is_over else {each: not self.missing(each) for each in assignment.partitions}

    def holds_first(self) -> bool:
        """Return whether this worker does what one does for all."""
        assignment = self.assignments.current
        return FIRST in assignment.partitions and not assignment.is_over
