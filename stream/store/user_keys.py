"""The keys of users' HASHes on one server or a Cluster: whose each is, which there are, which go together."""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar, cast

import redis

from stream.store.keys import category_key, models_key
from stream.store.user_row import UserRow

T = TypeVar("T")

#: Keys of one script call: no other client waits long, and Redis runs one call while it reads the next.
USERS_PER_CALL = 32


def fields_read(asks: Sequence[Sequence[str]], answers: Sequence[object]) -> list[list[bytes | None]]:
    """Return the answers to HMGETs, by the fields that each asked for: none of a key that is no HASH.

    Such a key is another application's. Raises whatever else Redis answered for an error.
    """
    found: list[list[bytes | None]] = []
    for fields, answer in zip(asks, answers, strict=True):
        if isinstance(answer, redis.ResponseError) and "WRONGTYPE" in str(answer):
            answer = [None] * len(fields)
        if isinstance(answer, Exception):
            raise answer
        found.append(cast("list[bytes | None]", answer))
    return found


class UserKeys:
    """Keys of the users of one prefix, and of what cold-start users get at categories."""

    def __init__(self, client: "redis.Redis", key_prefix: str) -> None:
        self._client = client
        self._prefix = key_prefix
        self._category_prefix = category_key(key_prefix, "")

    def of_user(self, user_id: str) -> str:
        """Return the key of a user's HASH."""
        return self._prefix + user_id

    def of_row(self, row: UserRow) -> str:
        """Return the key under which a row is written."""
        return self._category_prefix + row.category if row.category else self.of_user(row.user_id)

    def is_cold_start(self, key: str) -> bool:
        """Return whether a key holds what cold-start users get, which never expires."""
        return key == self._prefix or key.startswith(self._category_prefix)

    def stored(self) -> Iterator[str]:
        """Yield the keys of all HASHes that Redis has, some of them twice.

        Those of another deployment are not among them, also where its prefix begins with this one.
        """
        theirs = tuple(begin for prefix in self._longer() for begin in (prefix, category_key(prefix, "")))
        for key in self._hashes("*", self._prefix):
            if key.startswith((self._prefix, self._category_prefix)) and not key.startswith(theirs):
                yield key

    def _longer(self) -> set[str]:
        """Return the prefixes of other deployments that begin with this one."""
        found = {key.removeprefix(models_key("")) for key in self._hashes("", models_key(self._prefix))}
        return found - {self._prefix}

    def _hashes(self, before: str, text: str) -> Iterator[str]:
        """Yield the keys of all HASHes with a text in them, behind what a pattern says; some of them twice.

        A key that is no UTF-8 is another application's: a user id is text.
        """
        pattern = before + re.sub(r"([*?\[\]\\])", r"\\\1", text) + "*"
        for each in self._client.scan_iter(pattern, count=1_000, _type="HASH"):
            try:
                key = cast(bytes, each).decode()
            except UnicodeDecodeError:
                continue
            yield key

    def calls(self, items: Iterable[tuple[str, T]]) -> Iterator[tuple[list[str], list[T]]]:
        """Yield the keys of one script call each, and what belongs to them.

        In a Cluster, a script may touch keys of one hash slot alone. Keys of cold-start users are in calls of
        their own.
        """
        client: Any = self._client
        keyslot = client.keyslot if isinstance(client, redis.RedisCluster) else lambda key: 0
        groups: dict[tuple[int, bool], list[tuple[str, T]]] = {}
        for key, item in items:
            place = keyslot(key), self.is_cold_start(key)
            groups.setdefault(place, []).append((key, item))
        for group in groups.values():
            for start in range(0, len(group), USERS_PER_CALL):
                keys, some = zip(*group[start : start + USERS_PER_CALL], strict=True)
                yield list(keys), list(some)
