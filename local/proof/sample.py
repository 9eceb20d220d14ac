"""Which users are checked: all, or those of the topic with the smallest hashes."""

import heapq

import xxhash


class UserSample:
    """Chooses users while the topic is read for the first time, in memory for no more than `size` of them.

    A user belongs to the sample if their hash is among the `size` smallest of all users'. The largest hash in
    the sample only ever shrinks, so whoever belongs to it at the end belonged to it since their first event,
    and none of their events was missed. The same topic gives the same users, in whatever order it is read.
    """

    def __init__(self, size: int = 0) -> None:
        """`size` is how many users there are at most; 0: all."""
        self.size = size
        #: The users, the largest hash on top: (-hash, key).
        self._users: list[tuple[int, bytes]] = []

    @property
    def is_everyone(self) -> bool:
        """Return whether all users are checked."""
        return not self.size

    def covers(self, key: bytes) -> bool:
        """Return whether the user of this key is in the sample, or would be."""
        return len(self._users) < self.size or self.is_everyone or _hash(key) <= -self._users[0][0]

    def add(self, key: bytes) -> bytes | None:
        """Take in a new user whom the sample covers; return who has to leave for that."""
        if self.is_everyone:
            return None
        entry = -_hash(key), key
        if len(self._users) < self.size:
            heapq.heappush(self._users, entry)
            return None
        return heapq.heappushpop(self._users, entry)[1]


def _hash(key: bytes) -> int:
    return xxhash.xxh3_64_intdigest(key)
