"""Writing vectors to Redis: the only module that does, and it never replaces a newer vector by an older."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import redis

from models.errors import UnreachableError
from stream.connections import RedisConnection
from stream.layout import FIELDS, TOPIC_EPOCHS_KEY, Vector, vector_to_bytes

#: Users of one script call: few round trips, and no other client waits long for Redis.
USERS_PER_CALL = 100

# ARGV: force, ttl in seconds, then the fields of each of KEYS in the order of layout.FIELDS.
# The first three, (publication, epoch, seq), decide: a smaller triple than the stored one is stale.
_UPSERT = """
local width = WIDTH
local force, ttl = ARGV[1] == '1', tonumber(ARGV[2])
local written = 0
for i, key in ipairs(KEYS) do
  local base = 2 + (i - 1) * width
  local is_stale = false
  if not force then
    local stored = redis.call('HMGET', key, 'publication', 'epoch', 'seq')
    for place = 1, 3 do
      local old, new = tonumber(stored[place] or nil), tonumber(ARGV[base + place])
      if not old or old < new then break end
      if old > new then is_stale = true break end
    end
  end
  if not is_stale then
    redis.call('HSET', key, PAIRS)
    if ttl > 0 then redis.call('EXPIRE', key, ttl) end
    written = written + 1
  end
end
return written
""".replace("WIDTH", str(len(FIELDS))).replace(
    "PAIRS", ", ".join(f"'{name}', ARGV[base + {place}]" for place, name in enumerate(FIELDS, start=1))
)

# ARGV: epoch, then for each of KEYS the source offset up to which to forget; a newer vector stays.
_FORGET = """
local deleted = 0
for i, key in ipairs(KEYS) do
  local stored = redis.call('HMGET', key, 'epoch', 'seq')
  local epoch, seq = tonumber(stored[1] or nil), tonumber(stored[2] or nil)
  local last_epoch, last_seq = tonumber(ARGV[1]), tonumber(ARGV[1 + i])
  if not epoch or not seq or epoch < last_epoch or (epoch == last_epoch and seq <= last_seq) then
    deleted = deleted + redis.call('DEL', key)
  end
end
return deleted
"""

# Redis' own clock, so that an epoch given out later is greater even after Redis came back empty.
_TOPIC_EPOCH = """
local known = redis.call('HGET', KEYS[1], ARGV[1])
if known then return tonumber(known) end
local now = redis.call('TIME')
local epoch = now[1] * 1000 + math.floor(now[2] / 1000)
redis.call('HSET', KEYS[1], ARGV[1], epoch)
return epoch
"""


@dataclass(frozen=True, slots=True)
class UserRow:
    """One user's vectors and what they were made from."""

    user_id: str
    #: vec, long and short, (D,) each.
    vec: Vector
    long: Vector
    short: Vector
    #: Version and publication number of the artifact.
    model: str
    publication: int
    #: Epoch of the source topic, and the source offset applied last.
    epoch: int
    seq: int
    #: Event time of the newest event (ms), and how many events the window holds.
    ts: int
    n: int


class Store:
    """Upserts users into Redis HASHes by compare-and-set on (publication, epoch, seq)."""

    def __init__(
        self,
        client: "redis.Redis",
        *,
        key_prefix: str = "user:",
        vector_format: str = "float32",
        ttl_s: int = 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._key_prefix = key_prefix
        self._vector_format = vector_format
        self._ttl_s = ttl_s
        self._clock = clock
        self._upsert = client.register_script(_UPSERT)
        self._forget = client.register_script(_FORGET)
        self._topic_epoch = client.register_script(_TOPIC_EPOCH)

    def topic_epoch(self, topic_id: str) -> int:
        """Return the epoch of a topic: greater for a topic that was made later, the same for every worker."""
        return int(cast(int, self._topic_epoch(keys=[TOPIC_EPOCHS_KEY], args=[topic_id])))

    def upsert(self, rows: Sequence[UserRow], *, force: bool = False) -> int:
        """Write the rows that are not older than what is stored, and return how many were written.

        `force` writes all of them, whatever is stored (backfill). Raises redis.RedisError.
        """
        written = 0
        for start in range(0, len(rows), USERS_PER_CALL):
            some = rows[start : start + USERS_PER_CALL]
            arguments: list[bytes | str | int] = [int(force), self._ttl_s]
            for row in some:
                arguments += self._fields(row)
            written += cast(
                int, self._upsert(keys=[self._key_prefix + row.user_id for row in some], args=arguments)
            )
        return written

    def forget(self, users: Sequence[tuple[str, int]], epoch: int) -> int:
        """Delete the keys of these (user id, source offset) whose vectors are not newer; return how many.

        Raises redis.RedisError.
        """
        deleted = 0
        for start in range(0, len(users), USERS_PER_CALL):
            some = users[start : start + USERS_PER_CALL]
            keys = [self._key_prefix + user_id for user_id, _ in some]
            deleted += cast(int, self._forget(keys=keys, args=[epoch, *(offset for _, offset in some)]))
        return deleted

    def set_json(self, rows: Sequence[UserRow]) -> None:
        """Write each vector as a JSON list under the raw user id, as the original format has it."""
        pipeline = self._client.pipeline(transaction=False)
        for row in rows:
            pipeline.set(row.user_id, json.dumps(row.vec.tolist()), ex=self._ttl_s or None)
        pipeline.execute()

    def _fields(self, row: UserRow) -> list[bytes | str | int]:
        vectors = (vector_to_bytes(vector, self._vector_format) for vector in (row.vec, row.long, row.short))
        written_at = int(self._clock() * 1000)
        return [
            *(row.publication, row.epoch, row.seq),
            *vectors,
            *(row.model, row.ts, row.n, written_at, self._vector_format),
        ]


def redis_client(connection: RedisConnection) -> "redis.Redis":
    """Return a client that answers; UnreachableError where Redis does not."""
    client = redis.Redis.from_url(
        connection.url,
        socket_timeout=connection.timeout_s,
        socket_connect_timeout=connection.timeout_s,
        health_check_interval=30,
    )
    try:
        client.ping()
    except redis.RedisError as error:
        raise UnreachableError(
            f"no Redis at {connection.place} ({error}): start one with `./run up`, or set REDIS_URL"
        ) from error
    return client
