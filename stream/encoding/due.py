"""Who is encoded next: of the changed users those whose encode interval is over, longest waiting first."""

import time
from collections.abc import Callable, Sequence

from stream import metrics
from stream.encoding.encode_interval import EncodeInterval
from stream.settings import Settings
from stream.windows.assignment import Assignment
from stream.windows.partition import Partition

#: Some users, each with the partition that they are of.
TakenUsers = Sequence[tuple[Partition, str]]


class DueUsers:
    """Decides who is taken into a batch, and whether live traffic needs all there is; nothing here waits."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._interval = EncodeInterval(settings.encode_interval_ms / 1000, clock)
        #: Dirty users whom the last batch left because they rest.
        self._resting = 0

    @property
    def interval_s(self) -> float:
        """The least time between two encodes of one user, as things stand (s)."""
        return self._interval.interval_s

    def note_read(self, assignment: Assignment) -> None:
        """Notice that events were read: users may have become dirty, and fewer events are left to read."""
        self._interval.fall_behind(assignment.behind())
        metrics.dirty_users.set(assignment.waiting())

    def is_batch_full(self, assignment: Assignment) -> bool:
        """Return whether as many changed users are due as are encoded together."""
        return assignment.dirty() - self._resting >= self._settings.batch_users

    def is_busy(self, assignment: Assignment) -> bool:
        """Return whether live traffic needs all there is: a full batch is due, or reading is behind."""
        return self._interval.is_behind() or self.is_batch_full(assignment)

    def take(self, assignment: Assignment) -> TakenUsers:
        """Move a batch of the users who are due from dirty to in flight, and return them."""
        # Where reading would soon have to pause for want of room, nobody rests.
        is_crowded = 2 * assignment.waiting() >= self._settings.waiting_users
        return self._take(assignment, _always if is_crowded else self._interval.judge())

    def take_any(self, assignment: Assignment) -> TakenUsers:
        """Move a batch of dirty users to in flight, those who rest too, and return them."""
        return self._take(assignment, _always)

    def _take(self, assignment: Assignment, is_due: Callable[[str], bool]) -> TakenUsers:
        users: list[tuple[Partition, str]] = []
        # The partition with the fewest waiting first: what it leaves of its share goes to the others.
        partitions = sorted(assignment.partitions.values(), key=lambda partition: len(partition.dirty))
        for place, partition in enumerate(partitions):
            share = (self._settings.batch_users - len(users)) // (len(partitions) - place)
            taken = partition.take(max(share, 1), _idle(partition, is_due))
            users += [(partition, user_id) for user_id in taken]
        is_full = len(users) >= self._settings.batch_users
        self._resting = 0 if is_full else assignment.dirty()
        self._interval.note(user_id for _, user_id in users)
        return users


def _idle(partition: Partition, is_due: Callable[[str], bool]) -> Callable[[str], bool]:
    """Return a function that says whether a user is due, and not under way: writes keep their order."""
    return lambda user_id: user_id not in partition.in_flight and is_due(user_id)


def _always(_: str) -> bool:
    return True
