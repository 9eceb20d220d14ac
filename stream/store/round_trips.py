"""Calls of scripts in one round trip, which also brings back how Redis is."""

import uuid
from collections import deque
from collections.abc import Mapping, Sequence
from threading import Lock
from typing import Any, cast

import redis

from stream.store.keys import models_key, writer_key
from stream.store.registry_state import MODELS_FIELDS, Models, parse_models
from stream.store.scripts import digest, script

Arguments = list[bytes | str | int]
#: Keys and arguments of one call of a script.
Call = tuple[list[str], Arguments]

#: The counter of a writer that has not written for this long is removed (s).
WRITER_TTL_S = 86_400

#: Keys tried at most until every node of a Cluster has one: some for each of 16,384 slots.
KEYS_TRIED = 100_000

#: So many trips may overtake one of another thread.
COUNTS_KEPT = 1_000


class RoundTrips:
    """Runs scripts, and sees with every round trip which models are live and whether Redis has lost writes.

    Redis counts the round trips of this writer. A count that is not greater than all that were known before
    the trip, or that another trip was given too, tells that the counter was set back: Redis came back empty,
    or as it was before, and what was written since may be gone.

    May be used from several threads, whose trips overlap and overtake each other.
    """

    def __init__(self, client: "redis.Redis", key_prefix: str) -> None:
        self._client = client
        self._registry_key = models_key(key_prefix)
        #: Counter (one on every node of a Cluster) -> its last counts, in the order in which they came back.
        self._counts = {counter: deque([0], maxlen=COUNTS_KEPT) for counter in _counters(client, key_prefix)}
        self._lock = Lock()
        self._models: Models | None = None
        self._losses = 0

    @property
    def models(self) -> Models | None:
        """Return which models are live, as last seen; None where none ever served."""
        return self._models

    @property
    def losses(self) -> int:
        """Return how often Redis was found to have lost writes."""
        return self._losses

    def notice(self, models: Models | None) -> None:
        """Remember which models are live; what a Redis says that lost writes is older, and wrong."""
        with self._lock:
            if models and (self._models is None or models.generation >= self._models.generation):
                self._models = models

    def run(self, name: str, calls: Sequence[Call]) -> list[Any]:
        """Return what each of these calls of a script answers. Raises redis.RedisError."""
        losses = self._losses
        answers = self._send(name, calls)
        errors = [answer for answer in answers if isinstance(answer, Exception)]
        if errors and all(isinstance(error, redis.exceptions.NoScriptError) for error in errors):
            self._client.script_load(script(name))
            answers = self._send(name, calls)
            errors = [answer for answer in answers if isinstance(answer, Exception)]
        if any(isinstance(error, redis.ReadOnlyError) for error in errors):
            # What was the master is a replica now: connect again, to whatever the address leads to then.
            self._client.connection_pool.disconnect()
        if errors:
            raise errors[0]
        *found, fields = answers
        models = parse_models(cast(list[bytes | None], fields))
        if models is None and self._models:
            self._note_gone(losses)
        self.notice(models)
        return found

    def _send(self, name: str, calls: Sequence[Call]) -> list[object]:
        """Return the answers to the calls and then the fields of the live models, errors among them."""
        with self._lock:
            known = {counter: max(counts) for counter, counts in self._counts.items()}
        pipeline = self._client.pipeline(transaction=False)
        for counter in known:
            pipeline.incr(counter)
            pipeline.expire(counter, WRITER_TTL_S)
        for keys, arguments in calls:
            # Not `evalsha`, which the pipeline of a Cluster refuses: all keys of a call are of one slot.
            pipeline.execute_command("EVALSHA", digest(name), len(keys), *keys, *arguments)  # type: ignore[no-untyped-call]
        # Last, so that nothing was written before a change of models without our hearing of it.
        pipeline.hmget(self._registry_key, MODELS_FIELDS)
        answers = pipeline.execute(raise_on_error=False)
        counts, answers = answers[: 2 * len(known)], answers[2 * len(known) :]
        self._judge(known, dict(zip(known, counts[::2], strict=True)))
        return [*(count for count in counts if isinstance(count, Exception)), *answers]

    def _note_gone(self, losses: int) -> None:
        """Notice that nobody knows which models are live, as the key was evicted or deleted by hand.

        Nor then how far a change of them is, and others may be gone, too. losses: before the trip, as whoever
        noticed another loss since knows it.
        """
        with self._lock:
            if self._losses == losses:
                self._losses += 1

    def _judge(self, known: Mapping[str, int], found: Mapping[str, object]) -> None:
        """Notice from the counters' answers, and from what was known before, whether Redis lost writes."""
        is_lost = False
        with self._lock:
            for counter, count in found.items():
                if not isinstance(count, int):
                    continue
                counts = self._counts[counter]
                if count <= known[counter] or count in counts:
                    is_lost = True
                    counts.clear()
                counts.append(count)
            self._losses += is_lost


def _counters(client: "redis.Redis", key_prefix: str) -> list[str]:
    """Return the key of a counter of a new writer's round trips, one on every node of a Cluster."""
    writer = uuid.uuid4().hex
    if not isinstance(client, redis.RedisCluster):
        return [writer_key(key_prefix, writer)]
    found: dict[str, str] = {}
    nodes = len(client.get_primaries())
    for number in range(KEYS_TRIED):  # a node of few slots may get none: then its losses are not noticed
        key = writer_key(key_prefix, writer, str(number))
        found.setdefault(client.get_node_from_key(key).name, key)
        if len(found) == nodes:
            break
    return list(found.values())
