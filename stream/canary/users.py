"""The canary's users: one for each partition, so that no partition is left out."""

from itertools import count

from models.events import CANARY_PREFIX
from stream.kafka.partitioner import partition_of


def canary_users(name: str, partitions: int) -> list[str]:
    """Return a user id of each partition, in order; other names have other users."""
    found: dict[int, str] = {}
    for number in count():
        user_id = f"{CANARY_PREFIX}{name}-{number}"
        found.setdefault(partition_of(user_id.encode(), partitions), user_id)
        if len(found) == partitions:
            return [found[partition] for partition in range(partitions)]
    raise AssertionError("numbers do not end")
