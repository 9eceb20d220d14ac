"""Writing vectors to Redis: the only module that does, and it never replaces a newer vector by an older."""

import itertools
import json
import re
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from threading import Lock
from typing import Any, TypeVar, cast

import msgspec
import redis

from models.errors import SettingsError
from stream.store.keys import COLD_START_USER, TOPIC_EPOCHS_KEY, category_key, writer_key
from stream.store.model_registry import ModelChangeError, ModelRegistry
from stream.store.registry_state import MODELS_FIELDS, Models, parse_models
from stream.store.scripts import digest, script
from stream.store.vectors import Vector, vector_to_bytes

T = TypeVar("T")
Arguments = list[bytes | str | int]
#: Keys and arguments of one call of a script.
Call = tuple[list[str], Arguments]

#: Users of one script call: no other client waits long, and Redis runs one call while it reads the next.
USERS_PER_CALL = 32

#: Users of one round trip.
USERS_PER_TRIP = 1_000

#: The counter of a writer that has not written for this long is removed (s).
WRITER_TTL_S = 86_400


class UserRow(msgspec.Struct, frozen=True, gc=False):
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
    #: The items of the newest events, oldest first; the store writes as many as it was told to.
    history: Sequence[str] = ()
    #: At which category the cold-start user gets this; empty: where none is known.
    category: str = ""


class Store:
    """Writes users' rows into their HASHes, each model's into a slot of its own (see lua/slots.lua).

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
        short_ttl_s: int = 0,
        history_items: int = 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        #: Changes which models are live; what it answers, `models` knows after the next call.
        self.registry = ModelRegistry(client, key_prefix)
        self._client = client
        self._key_prefix = key_prefix
        self._category_prefix = category_key(key_prefix, "")
        self._vector_format = vector_format
        self._ttl_s = ttl_s
        self._short_ttl_s = short_ttl_s
        self._history_items = history_items
        self._clock = clock
        self._models: Models | None = None
        #: The greatest answer of each node's counter so far: a smaller one means that Redis lost something.
        self._counted = dict.fromkeys(self._counters(), 0)
        self._lock = Lock()
        self._losses = 0
        self._restored_losses = 0
        self._epochs: dict[str, int] = {}
        self._cold_start_rows: dict[str, UserRow] = {}
        self._topic_epoch = client.register_script(script("topic_epoch"))

    def check_server(self) -> None:
        """Raise SettingsError where the server cannot do what is asked of it."""
        if not self._short_ttl_s:
            return
        try:
            self._client.httl(self.registry.key, "serving")
        except redis.ResponseError as error:
            raise SettingsError(
                f"TWINTIDE_SHORT_TTL_S needs Redis >= 7.4 or Valkey >= 9, to expire single fields ({error})"
            ) from error

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
        epoch and the rows of the cold-start user, but those of categories, are put back at once.
        """
        return self._losses

    def poll(self) -> Models | None:
        """Ask Redis which models are live, and whether it lost anything: for times without writes."""
        self._round_trip("upsert_slots", ())
        self._restore()
        return self._models

    def report_coverage(self, version: str, partition: int, done: int, total: int, losses: int) -> Models:
        """Report as ModelRegistry.report_coverage does, if Redis still has what it was given.

        `losses` is what the property was when the first of the `done` users was written; where it has grown,
        nothing is reported.
        """
        models = self.poll()
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
        if self._models is None or {row.model for row in rows} - self._models.publications.keys():
            self.poll()
        if self._models is None:
            raise ModelChangeError(f"no model serves at {self.registry.key}: serve one before writing users")
        written = 0
        for start in range(0, len(rows), USERS_PER_TRIP):
            written += self._write(self._models, rows[start : start + USERS_PER_TRIP], force)
        self._cold_start_rows |= {
            row.model: row for row in rows if row.user_id == COLD_START_USER and not row.category
        }
        self._restore()
        return written

    def clean_up(self, keys: Sequence[str]) -> int:
        """Put the serving model into these HASHes' plain fields, delete models that are not live any more.

        For after a switch, a rollback or `ModelRegistry.retire`, in portions; returns how many changed.
        """
        models = self.poll()
        if models is None:
            return 0
        calls: list[Call] = []
        for some, _ in self._portions((key, None) for key in keys):
            calls.append((some, self._models_arguments(models, some[0])))
        return sum(self._round_trip("clean_up_slots", calls))

    def stored_keys(self) -> Iterator[str]:
        """Yield the keys of all HASHes of users and categories that Redis has, some of them twice."""
        pattern = "*" + re.sub(r"([*?\[\]\\])", r"\\\1", self._key_prefix) + "*"
        for each in self._client.scan_iter(pattern, count=1_000, _type="HASH"):
            key = cast(bytes, each).decode()
            if key.startswith((self._key_prefix, self._category_prefix)):
                yield key

    def forget(self, users: Sequence[tuple[str, int]], epoch: int) -> int:
        """Delete the vectors of these (user id, source offset) that are not newer; return how many went.

        Raises redis.RedisError.
        """
        calls: list[Call] = []
        by_key = ((self._key_prefix + user_id, offset) for user_id, offset in users)
        for keys, offsets in self._portions(by_key):
            calls.append((keys, ["", "", 0, 0, epoch, *offsets]))
        return sum(self._round_trip("forget_users", calls)) if calls else 0

    def set_json(self, rows: Sequence[UserRow]) -> None:
        """Write each vector as a JSON list under the raw user id, as the original format has it."""
        pipeline = self._client.pipeline(transaction=False)
        for row in rows:
            pipeline.set(row.user_id, json.dumps(row.vec.tolist()), ex=self._ttl_s or None)
        pipeline.execute()

    # -- how

    def _write(self, models: Models, rows: Sequence[UserRow], force: bool) -> int:
        publications = models.publications
        known = [row for row in rows if row.model in publications]
        calls: list[Call] = []
        for keys, some in self._portions((self._key(row), row) for row in known):
            ttl_s = 0 if self._is_cold_start(keys[0]) else self._ttl_s
            arguments = [*self._models_arguments(models, keys[0]), int(force), ttl_s]
            for row in some:
                arguments += self._fields(row, publications[row.model])
            calls.append((keys, arguments))
        return sum(self._round_trip("upsert_slots", calls))

    def _round_trip(self, name: str, calls: Sequence[Call]) -> list[int]:
        """Run these calls of a script, and see in the same round trip how Redis is."""
        counted_before = dict(self._counted)
        pipeline = self._client.pipeline(transaction=False)
        for counter in counted_before:
            pipeline.incr(counter)
            pipeline.expire(counter, WRITER_TTL_S)
        for keys, arguments in calls:
            # Not `evalsha`, which the pipeline of a Cluster refuses: all keys of a call are of one slot.
            pipeline.execute_command("EVALSHA", digest(name), len(keys), *keys, *arguments)  # type: ignore[no-untyped-call]
        # Last, so that nothing was written before a change of models without our hearing of it.
        pipeline.hmget(self.registry.key, MODELS_FIELDS)
        answers = pipeline.execute(raise_on_error=False)
        counts, answers = answers[: 2 * len(counted_before)], answers[2 * len(counted_before) :]
        self._judge(dict(zip(counted_before, counts[::2], strict=True)), counted_before)
        errors = [answer for answer in (*counts, *answers) if isinstance(answer, Exception)]
        if errors and all(isinstance(error, redis.exceptions.NoScriptError) for error in errors):
            self._client.script_load(script(name))
            return self._round_trip(name, calls)
        if any(isinstance(error, redis.ReadOnlyError) for error in errors):
            # What was the master is a replica now: connect again, to whatever the address leads to then.
            self._client.connection_pool.disconnect()
        if errors:
            raise errors[0]
        self._notice(parse_models(answers[-1]))
        return cast(list[int], answers[:-1])

    def _judge(self, counts: Mapping[str, object], counted_before: Mapping[str, int]) -> None:
        """Notice from the counters' answers whether Redis lost writes: they only ever grow."""
        known = {counter: count for counter, count in counts.items() if isinstance(count, int)}
        with self._lock:
            lost = [counter for counter, count in known.items() if count <= counted_before[counter]]
            self._losses += bool(lost)
            self._counted |= dict.fromkeys(lost, 0)
            for counter, count in known.items():
                self._counted[counter] = max(self._counted[counter], count)

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
            self._write(self._models, list(self._cold_start_rows.values()), force=False)
        for topic_id in list(self._epochs):
            self.topic_epoch(topic_id)
        self._restored_losses = losses

    def _fields(self, row: UserRow, publication: int) -> Arguments:
        vectors = [vector_to_bytes(vector, self._vector_format) for vector in (row.vec, row.long, row.short)]
        written_at = int(self._clock() * 1000)
        return [
            *(row.model, publication, row.epoch, row.seq),
            *(row.ts, row.n, written_at, self._vector_format),
            *vectors,
            self._history(row),
        ]

    def _history(self, row: UserRow) -> bytes:
        newest = row.history[-self._history_items :] if self._history_items else []
        return msgspec.json.encode(newest) if newest else b""

    def _models_arguments(self, models: Models, key: str) -> Arguments:
        """Return what every script wants to know first, in a call that begins with this key."""
        second = models.second.version if models.second else ""
        short_ttl_s = 0 if self._is_cold_start(key) else self._short_ttl_s
        return [models.serving.version, second, models.latest, short_ttl_s]

    def _key(self, row: UserRow) -> str:
        return self._category_prefix + row.category if row.category else self._key_prefix + row.user_id

    def _is_cold_start(self, key: str) -> bool:
        return key == self._key_prefix or key.startswith(self._category_prefix)

    def _counters(self) -> list[str]:
        """Return the key of a counter of this writer's calls on every node."""
        writer = writer_key(self._key_prefix, uuid.uuid4().hex)
        if not isinstance(self._client, redis.RedisCluster):
            return [writer]
        found: dict[str, str] = {}
        nodes = len(self._client.get_primaries())
        for number in itertools.count():
            key = f"{writer}:{number}"
            found.setdefault(self._client.get_node_from_key(key).name, key)
            if len(found) == nodes:
                break
        return list(found.values())

    def _portions(self, items: Iterable[tuple[str, T]]) -> Iterator[tuple[list[str], list[T]]]:
        """Yield the keys of one call each, and what belongs to them.

        In a Cluster, a script may touch keys of one hash slot alone. The cold-start user, who never expires,
        is in calls of their own.
        """
        client: Any = self._client
        keyslot = client.keyslot if isinstance(client, redis.RedisCluster) else lambda key: 0
        groups: dict[tuple[int, bool], list[tuple[str, T]]] = {}
        for key, item in items:
            place = keyslot(key), self._is_cold_start(key)
            groups.setdefault(place, []).append((key, item))
        for group in groups.values():
            for start in range(0, len(group), USERS_PER_CALL):
                keys, some = zip(*group[start : start + USERS_PER_CALL], strict=True)
                yield list(keys), list(some)
