"""Writing vectors to Redis: the only module that does, and it never replaces a newer vector by an older."""

import json
import re
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import TypeVar, cast

import redis

from models.errors import UnreachableError
from stream import slots
from stream.connections import RedisConnection
from stream.layout import TOPIC_EPOCHS_KEY, UNSEEN_USER, Vector, vector_to_bytes, writer_key
from stream.registry import MODELS_FIELDS, ModelChangeError, ModelRegistry, Models, parse_models

T = TypeVar("T")
Arguments = list[bytes | str | int]

#: Users of one script call: no other client waits long for Redis.
USERS_PER_CALL = 100

#: Users of one round trip.
USERS_PER_TRIP = 1_000

#: The counter of a writer that has not written for this long is removed (s).
WRITER_TTL_S = 86_400

# Redis' own clock, so that an epoch given out later is greater even after Redis came back empty. ARGV: the
# topic's id, and its epoch as the writer knows it (0: not yet).
_TOPIC_EPOCH = """
local stored = redis.call('HGET', KEYS[1], ARGV[1])
if stored then return tonumber(stored) end
local now = redis.call('TIME')
local epoch = tonumber(ARGV[2])
if epoch == 0 then epoch = now[1] * 1000 + math.floor(now[2] / 1000) end
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
    #: Version of the artifact.
    model: str
    #: Epoch of the source topic, and the source offset applied last.
    epoch: int
    seq: int
    #: Event time of the newest event (ms), and how many events the window holds.
    ts: int
    n: int


class Store:
    """Writes users' rows into their HASHes, each model's into a slot of its own (see slots.py).

    Every call brings back which models are live (`models`), and whether Redis has lost what was written
    (`losses`), at the price of two small commands in the same round trip. One thread writes at a time; `look`
    and the properties may be used from others.
    """

    def __init__(
        self,
        client: "redis.Redis",
        *,
        key_prefix: str = "user:",
        vector_format: str = "float32",
        ttl_s: int = 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        #: Changes which models are live; what it answers, `models` knows after the next call.
        self.registry = ModelRegistry(client, key_prefix)
        self._client = client
        self._key_prefix = key_prefix
        self._vector_format = vector_format
        self._ttl_s = ttl_s
        self._clock = clock
        self._models: Models | None = None
        self._writer_key = writer_key(key_prefix, uuid.uuid4().hex)
        self._lock = Lock()
        #: The greatest answer of the counter so far: a smaller one means that Redis lost something.
        self._counted = 0
        self._losses = 0
        self._restored_losses = 0
        self._epochs: dict[str, int] = {}
        self._unseen_rows: dict[str, UserRow] = {}
        self._settle, self._upsert, self._forget, self._topic_epoch = (
            client.register_script(text) for text in (slots.SETTLE, slots.UPSERT, slots.FORGET, _TOPIC_EPOCH)
        )

    # -- which models are live, and whether Redis still has what was written

    @property
    def models(self) -> Models | None:
        """Return which models are live, as the last call saw it; None where none ever served."""
        return self._models

    @property
    def losses(self) -> int:
        """Return how often Redis was found to have lost writes: it came back empty, or as it was before.

        When this grows, write every user again from state (no force is needed), and ask for `topic_epoch`
        once more: another worker may have got a greater one meanwhile. Which models are live, the topic's
        epoch and the rows of the unseen user that this store wrote are put back at once.
        """
        return self._losses

    def look(self) -> Models | None:
        """Ask Redis which models are live, and whether it lost anything: for times without writes."""
        self._round_trip(())
        self._restore()
        return self._models

    def report_coverage(self, version: str, partition: int, done: int, total: int, losses: int) -> Models:
        """Report as ModelRegistry.report_coverage does, if Redis still has what it was given.

        `losses` is what the property was when the first of the `done` users was written; where it has grown,
        nothing is reported.
        """
        models = self.look()
        if models is None or self._losses == losses:
            models = self.registry.report_coverage(version, partition, done, total)
            self._notice(models)
        return models

    def topic_epoch(self, topic_id: str) -> int:
        """Return the epoch of a topic: greater for a topic that was made later, the same for every worker."""
        arguments: Arguments = [topic_id, self._epochs.get(topic_id, 0)]
        epoch = int(cast(int, self._topic_epoch(keys=[TOPIC_EPOCHS_KEY], args=arguments)))
        self._epochs[topic_id] = epoch
        return epoch

    # -- users

    def upsert(self, rows: Sequence[UserRow], *, force: bool = False) -> int:
        """Write the rows that are not older than what is stored of their model; return how many that were.

        `force` writes them whatever is stored (backfill). A row whose model is not live counts as older: it
        is not written either. A user may have several rows, one of each live model. Raises redis.RedisError,
        and ModelChangeError where no model ever served.
        """
        self._restore()
        if self._models is None or any(self._models.publication_of(row.model) is None for row in rows):
            self.look()
        if self._models is None:
            raise ModelChangeError(f"no model serves at {self.registry.key}: serve one before writing users")
        written = 0
        for start in range(0, len(rows), USERS_PER_TRIP):
            written += self._write(self._models, rows[start : start + USERS_PER_TRIP], force)
        self._unseen_rows |= {row.model: row for row in rows if row.user_id == UNSEEN_USER}
        self._restore()
        return written

    def settle(self, user_ids: Sequence[str]) -> int:
        """Put the serving model into these users' plain fields, delete models that are not live any more.

        For after a switch, a rollback or `ModelRegistry.retire`, in portions; returns how many users changed.
        """
        models = self.look()
        if models is None:
            return 0
        changed = 0
        for some in _portions(user_ids):
            keys = [self._key_prefix + user_id for user_id in some]
            changed += cast(int, self._settle(keys=keys, args=_models_arguments(models)))
        return changed

    def stored_user_ids(self) -> Iterator[str]:
        """Yield the ids of all users that Redis has, the unseen user's included, some of them twice."""
        pattern = re.sub(r"([*?\[\]\\])", r"\\\1", self._key_prefix) + "*"
        for key in self._client.scan_iter(pattern, count=1_000, _type="HASH"):
            yield cast(bytes, key).decode()[len(self._key_prefix) :]

    def forget(self, users: Sequence[tuple[str, int]], epoch: int) -> int:
        """Delete the vectors of these (user id, source offset) that are not newer; return how many went.

        Raises redis.RedisError.
        """
        deleted = 0
        for some in _portions(users):
            keys = [self._key_prefix + user_id for user_id, _ in some]
            arguments: Arguments = ["", "", 0, epoch, *(offset for _, offset in some)]
            deleted += cast(int, self._forget(keys=keys, args=arguments))
        return deleted

    def set_json(self, rows: Sequence[UserRow]) -> None:
        """Write each vector as a JSON list under the raw user id, as the original format has it."""
        pipeline = self._client.pipeline(transaction=False)
        for row in rows:
            pipeline.set(row.user_id, json.dumps(row.vec.tolist()), ex=self._ttl_s or None)
        pipeline.execute()

    # -- how

    def _write(self, models: Models, rows: Sequence[UserRow], force: bool) -> int:
        known = [row for row in rows if models.publication_of(row.model) is not None]
        calls = []
        for some in _portions(known):
            arguments: Arguments = [*_models_arguments(models), int(force), self._ttl_s]
            for row in some:
                arguments += self._fields(row, models)
            calls.append(([self._key_prefix + row.user_id for row in some], arguments))
        return sum(cast(list[int], self._round_trip(calls)))

    def _round_trip(self, calls: Sequence[tuple[list[str], Arguments]]) -> list[object]:
        """Run these calls of the upsert script, and see in the same round trip how Redis is."""
        counted_before = self._counted
        pipeline = self._client.pipeline(transaction=False)
        pipeline.incr(self._writer_key)
        pipeline.expire(self._writer_key, WRITER_TTL_S)
        for keys, arguments in calls:
            pipeline.evalsha(self._upsert.sha, len(keys), *keys, *arguments)
        # Last, so that nothing was written before a change of models without our hearing of it.
        pipeline.hmget(self.registry.key, MODELS_FIELDS)
        answers = pipeline.execute(raise_on_error=False)
        self._judge(answers[0], counted_before)
        errors = [answer for answer in answers if isinstance(answer, Exception)]
        if errors and all(isinstance(error, redis.exceptions.NoScriptError) for error in errors):
            self._client.script_load(slots.UPSERT)
            return self._round_trip(calls)
        if errors:
            raise errors[0]
        self._notice(parse_models(answers[-1]))
        return answers[2:-1]

    def _judge(self, count: object, counted_before: int) -> None:
        """Notice from the counter's answer whether Redis lost writes: it only ever grows."""
        if isinstance(count, int):
            with self._lock:
                if count <= counted_before:
                    self._losses += 1
                    self._counted = 0
                self._counted = max(self._counted, count)

    def _notice(self, models: Models | None) -> None:
        """Remember which models are live; what a Redis says that lost writes is older, and wrong."""
        with self._lock:
            if models and (self._models is None or models.generation >= self._models.generation):
                self._models = models

    def _restore(self) -> None:
        """Put back what a Redis that lost writes needs before anything else."""
        losses = self._losses
        if losses == self._restored_losses:
            return
        if self._models:
            self._notice(self.registry.restore(self._models))
            self._write(self._models, list(self._unseen_rows.values()), force=False)
        for topic_id in list(self._epochs):
            self.topic_epoch(topic_id)
        self._restored_losses = losses

    def _fields(self, row: UserRow, models: Models) -> Arguments:
        vectors = [vector_to_bytes(vector, self._vector_format) for vector in (row.vec, row.long, row.short)]
        written_at = int(self._clock() * 1000)
        return [
            *(row.model, models.publication_of(row.model) or 0, row.epoch, row.seq),
            *(row.ts, row.n, written_at, self._vector_format),
            *vectors,
        ]


def _portions(users: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(users), USERS_PER_CALL):
        yield users[start : start + USERS_PER_CALL]


def _models_arguments(models: Models) -> Arguments:
    """Return what every script wants to know first."""
    return [models.serving.version, models.second.version if models.second else "", models.latest]


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
