"""Writing vectors to Redis: the only module that does, and it never replaces a newer vector by an older."""

import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

import redis

from models.errors import SettingsError
from stream.store.keys import COLD_START_USER
from stream.store.model_registry import ModelChangeError, ModelRegistry
from stream.store.registry_state import Models
from stream.store.round_trips import Arguments, Call, RoundTrips
from stream.store.topic_epochs import TopicEpochs
from stream.store.user_keys import UserKeys
from stream.store.user_row import UserRow, slot_values

logger = logging.getLogger(__name__)

#: Rows of one round trip.
ROWS_PER_TRIP = 1_000


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """What is written, and for how long."""

    key_prefix: str = "user:"
    #: One of keys.VECTOR_FORMATS.
    vector_format: str = "float32"
    #: Seconds until a user's key expires after its last write, and until the short vector alone does (0:
    #: never).
    ttl_s: int = 0
    short_ttl_s: int = 0
    #: Newest events that are written with the vectors.
    history_events: int = 0


_DEFAULTS = StoreSettings()


class Store:
    """Writes users' rows into their HASHes, each model's into a slot of its own (see lua/slots.lua).

    Every write brings back which models are live (`models`), and whether Redis has lost what was written
    (`losses`), at the price of two small commands in the same round trip.

    May be used from several threads: changed users, a sweep, the follower's polls and a clean-up write side
    by side (round_trips.py). `models` and `losses`, which /health reads, never wait.
    """

    def __init__(
        self,
        client: "redis.Redis",
        settings: StoreSettings = _DEFAULTS,
        clock: Callable[[], float] = time.time,
        on_foreign: Callable[[int], object] = lambda rows: None,
    ) -> None:
        """`on_foreign` is told of rows that were not written: their keys are another application's."""
        #: Changes which models are live; what it answers, `models` knows after the next call.
        self.registry = ModelRegistry(client, settings.key_prefix)
        self._client = client
        self._settings = settings
        self._clock = clock
        self._on_foreign = on_foreign
        self._has_told_foreign = False
        self._keys = UserKeys(client, settings.key_prefix)
        self._trips = RoundTrips(client, settings.key_prefix)
        self._epochs = TopicEpochs(client)
        #: Version -> its row of the cold-start user.
        self._cold_start_rows: dict[str, UserRow] = {}
        self._restoring = Lock()
        self._restored_losses = 0

    def check_server(self) -> None:
        """Raise SettingsError where the server cannot do what is asked of it; warn where it evicts keys."""
        self._warn_of_eviction()
        if not self._settings.short_ttl_s:
            return
        try:
            self._client.httl(self.registry.key, "serving")
        except redis.ResponseError as error:
            raise SettingsError(
                f"TWINTIDE_SHORT_TTL_S needs Redis >= 7.4 or Valkey >= 9, to expire single fields ({error})"
            ) from error

    def _warn_of_eviction(self) -> None:
        primaries: Any = {"target_nodes": "primaries"} if isinstance(self._client, redis.RedisCluster) else {}
        try:
            found: Any = self._client.info("memory", **primaries)
        except redis.ResponseError:  # not allowed to ask
            return
        for memory in found.values() if primaries else [found]:
            policy = memory.get("maxmemory_policy", "noeviction")
            if memory.get("maxmemory") and policy != "noeviction":
                logger.warning(
                    "Redis evicts keys when it is full (maxmemory-policy %s), and their users are served as "
                    "cold-start users: set it to noeviction",
                    policy,
                )
                return

    # -- which models are live, and whether Redis still has what was written

    @property
    def models(self) -> Models | None:
        """Return which models are live, as the last call saw it; None where none ever served."""
        return self._trips.models

    @property
    def losses(self) -> int:
        """Return how often Redis was found to have lost writes: it came back empty, or as it was before.

        When this grows, write every user again from state (no force is needed), and ask for `topic_epoch`
        once more: another worker may have got a greater one meanwhile. Which models are live, the topic's
        epoch and the rows of the cold-start user, but those of categories, are put back at once.
        """
        return self._trips.losses

    def poll(self) -> Models | None:
        """Ask Redis which models are live, and whether it lost anything: for times without writes.

        Where the vectors of the cold-start user alone are gone, they are written again: nobody reads without.
        """
        self._trips.run("upsert_slots", ())
        self._restore()
        rows = list(self._cold_start_rows.values())
        if self.models and rows and not self._client.exists(self._keys.of_user(COLD_START_USER)):
            self._write(self.models, rows, force=False)
        return self.models

    def report_coverage(self, version: str, partition: int, done: int, total: int, losses: int) -> Models:
        """Report as ModelRegistry.report_coverage does, if Redis still has what it was given.

        `losses` is what the property was when the first of the `done` users was written; where it has grown,
        nothing is reported.
        """
        models = self.poll()
        if models is None or self.losses == losses:
            models = self.registry.report_coverage(version, partition, done, total)
            self._trips.notice(models)
        return models

    def topic_epoch(self, topic_id: str) -> int:
        """Return the epoch of a topic: greater for a topic that was made later, the same for every worker."""
        return self._epochs.epoch(topic_id)

    # -- users

    def upsert(self, rows: Sequence[UserRow], *, force: bool = False) -> int:
        """Write the rows that are not older than what is stored of their model; return how many that were.

        `force` writes them whatever is stored (a bootstrap that replaces). A row whose model is not live
        counts as older: it is not written either. A user may have several rows, one of each live model. A key
        that is another application's, no HASH or one without a vector, is left alone.

        Raises redis.RedisError, and ModelChangeError where no model ever served.
        """
        self._restore()
        if self.models is None or {row.model for row in rows} - self.models.publications.keys():
            self.poll()
        if self.models is None:
            raise ModelChangeError(f"no model serves at {self.registry.key}: serve one before writing users")
        written = 0
        for start in range(0, len(rows), ROWS_PER_TRIP):
            written += self._write(self.models, rows[start : start + ROWS_PER_TRIP], force)
        self._cold_start_rows |= {
            row.model: row for row in rows if row.user_id == COLD_START_USER and not row.category
        }
        self._restore()
        return written

    def clean_up(self, keys: Sequence[str]) -> int:
        """Put the serving model into these HASHes' plain fields, delete models that are not live any more.

        For after a switch, a rollback or `ModelRegistry.retire`, some users at a time; returns how many
        changed.
        """
        models = self.poll()
        if models is None:
            return 0
        calls: list[Call] = []
        for some, _ in self._keys.calls((key, None) for key in keys):
            calls.append((some, self._models_arguments(models, some[0])))
        return sum(self._trips.run("clean_up_slots", calls))

    def stored_keys(self) -> Iterator[str]:
        """Yield the keys of all HASHes of users and categories that Redis has, some of them twice."""
        return self._keys.stored()

    def bytes_of(self, user_ids: Sequence[str]) -> list[int]:
        """Return how many bytes Redis has of each of these users who has any. Raises redis.RedisError."""
        found = (self._client.memory_usage(self._keys.of_user(user_id)) for user_id in user_ids)
        return [int(each) for each in found if each is not None]

    def forget(self, users: Sequence[tuple[str, int]], epoch: int) -> int:
        """Delete the vectors of these (user id, source offset) that are not newer; return how many went.

        Raises redis.RedisError.
        """
        calls: list[Call] = []
        by_key = ((self._keys.of_user(user_id), offset) for user_id, offset in users)
        for keys, offsets in self._keys.calls(by_key):
            calls.append((keys, ["", "", 0, 0, epoch, *offsets]))
        return sum(self._trips.run("forget_users", calls)) if calls else 0

    def set_json(self, rows: Sequence[UserRow]) -> None:
        """Write each vector as a JSON list under the raw user id, as the original format has it."""
        pipeline = self._client.pipeline(transaction=False)
        for row in rows:
            pipeline.set(row.user_id, json.dumps(row.vec.tolist()), ex=self._settings.ttl_s or None)
        pipeline.execute()

    # -- how

    def _write(self, models: Models, rows: Sequence[UserRow], force: bool) -> int:
        settings, publications = self._settings, models.publications
        known = [row for row in rows if row.model in publications]
        written_at_ms = int(self._clock() * 1000)
        calls: list[Call] = []
        for keys, some in self._keys.calls((self._keys.of_row(row), row) for row in known):
            ttl_s = 0 if self._keys.is_cold_start(keys[0]) else settings.ttl_s
            arguments = [*self._models_arguments(models, keys[0]), int(force), ttl_s]
            for row in some:
                number = publications[row.model]
                arguments += slot_values(
                    row, number, written_at_ms, settings.vector_format, settings.history_events
                )
            calls.append((keys, arguments))
        written, foreign = 0, list[str]()
        for (keys, _), (count, *places) in zip(calls, self._trips.run("upsert_slots", calls), strict=True):
            written += count
            foreign += [keys[place - 1] for place in places]
        if foreign:
            self._tell_foreign(foreign)
        return written

    def _tell_foreign(self, keys: Sequence[str]) -> None:
        if not self._has_told_foreign:
            logger.warning(
                "key %s in Redis is another application's, and others may be: their users get no vectors; "
                "give this deployment a prefix of its own (TWINTIDE_KEY_PREFIX)",
                keys[0],
            )
        self._has_told_foreign = True
        self._on_foreign(len(keys))

    def _restore(self) -> None:
        """Put back what a Redis that lost writes needs first; another thread that finds so waits for it."""
        with self._restoring:
            losses = self.losses
            if losses == self._restored_losses:
                return
            if self.models:
                self._trips.notice(self.registry.restore(self.models))
                self._write(self.models, list(self._cold_start_rows.values()), force=False)
            self._epochs.restore()
            self._restored_losses = losses

    def _models_arguments(self, models: Models, key: str) -> Arguments:
        """Return what every script wants to know first, in a call that begins with this key."""
        second = models.second.version if models.second else ""
        short_ttl_s = 0 if self._keys.is_cold_start(key) else self._settings.short_ttl_s
        return [models.serving.version, second, models.latest, short_ttl_s]
