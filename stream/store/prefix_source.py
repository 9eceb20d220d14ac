"""Where the vectors under a key prefix come from: users of two topics would get each other's."""

from typing import cast

import redis

from models.errors import SettingsError

#: For how long a topic fills a prefix after its last worker said so (s).
HELD_S = 30


class PrefixSource:
    """The topic that fills a key prefix, as all of its workers say again and again."""

    def __init__(self, client: "redis.Redis", key_prefix: str, source: str) -> None:
        """`source` names the topic, the same for all of its workers, also once it was made anew."""
        self._client = client
        self._prefix = key_prefix
        self._key = f"twintide:source:{key_prefix}"
        self._source = source.encode()

    def claim(self) -> None:
        """Say that this topic fills the prefix. Raises SettingsError where workers of another one do."""
        found = cast(bytes | None, self._client.get(self._key))
        if found not in (None, self._source):
            raise SettingsError(
                f"the keys {self._prefix!r} in Redis are filled from {found.decode(errors='replace')}, by "
                f"workers who were here less than {HELD_S} s ago, and these would write vectors of "
                f"{self._source.decode()} over them: set another TWINTIDE_KEY_PREFIX or REDIS_URL"
            )
        self._client.set(self._key, self._source, ex=HELD_S)
