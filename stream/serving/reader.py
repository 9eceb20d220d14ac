"""Reading user vectors, as an online ranker does: many users in one round trip, all of one model version.

Needs neither torch nor Faust.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Generic, TypeVar, cast

import redis
import redis.asyncio

from models.errors import TwintideError
from stream.serving.exchange import Ask, Exchange, Fields
from stream.serving.live_items import LiveItems
from stream.serving.read_protocol import (
    AtLeast,
    NoVectorsError,
    Position,
    ReaderSettings,
    ReadProtocol,
    Reason,
    UserVectors,
)
from stream.store.keys import TOPIC_EPOCHS_KEY
from stream.store.user_keys import fields_read

__all__ = ["AsyncReader", "NoVectorsError", "Position", "Reader", "Reason", "UserVectors"]

Client = TypeVar("Client", "redis.Redis", "redis.asyncio.Redis")


class _RedisReader(Generic[Client]):
    """What the reader that blocks and the one for asyncio share: all but who waits for Redis."""

    def __init__(
        self,
        client: Client,
        *,
        key_prefix: str = "user:",
        model: str = "",
        cached_users: int = 0,
        cached_s: float = 1.0,
        max_age_s: float = 0.0,
    ) -> None:
        """Read with this client vectors of the version `model` alone; empty: of the one that serves.

        At most `cached_users` users, and categories, are kept in this process, for `cached_s` seconds at
        most; 0 keeps none. A vector that was written more than `max_age_s` ago is `stale`; 0: none is.

        Raises TwintideError for a client that makes text of all answers.
        """
        encoder: Any = client.get_encoder()  # type: ignore[no-untyped-call]
        if encoder.decode_responses:
            raise TwintideError(
                "this client of Redis has decode_responses=True, and vectors are bytes: give one without it"
            )
        self._client: Client = client
        self._protocol = ReadProtocol(ReaderSettings(key_prefix, model, cached_users, cached_s, max_age_s))

    def _begin(
        self,
        user_ids: str | Sequence[str],
        category: str,
        at_least: AtLeast | None,
        wait_s: float,
    ) -> Exchange[list[UserVectors]]:
        asked = [user_ids] if isinstance(user_ids, str) else user_ids
        return Exchange(self._protocol.read(asked, category, at_least, wait_s))

    def _pipeline(self, asks: Sequence[Ask]) -> Any:
        """Return what asks Redis for all of this in one round trip, once it is executed."""
        pipeline = self._client.pipeline(transaction=False)
        for key, fields in asks:
            pipeline.hmget(key, fields)
        return pipeline


class Reader(_RedisReader["redis.Redis"]):
    """Reads user vectors of one model version; may be used from several threads.

    All vectors of an answer are of one version, also while the serving model changes: which model serves is
    read before the users, in the same round trip, and each user's vector comes from whichever slot holds that
    model. Where a switch falls between the two, the vectors are of the model that served a moment ago: its
    slots are still there, as a model is live for long before and after it serves. A user who has vectors, but
    none of that model, is asked for once more, and the serving model after them: where it is the same, the
    user really has none; where it changed, everything is read again. What the cache holds is of one version
    too, and dropped when another is seen.
    """

    def live_items(self) -> LiveItems:
        """Return the live items that are beside these users."""
        return LiveItems(self._client, self._protocol.settings.key_prefix)

    def topic_epoch(self, topic_id: str) -> int | None:
        """Return the epoch of a topic, by the id that Kafka gave it; None before a worker has read it."""
        found = cast(bytes | None, self._client.hget(TOPIC_EPOCHS_KEY, topic_id))
        return None if found is None else int(found)

    def read(
        self,
        user_ids: str | Sequence[str],
        category: str = "",
        *,
        at_least: AtLeast | None = None,
        wait_s: float = 0.0,
    ) -> list[UserVectors]:
        """Return the vectors of these users, in order, from one round trip; of one, where it is one id.

        `category` is what the page or the query is about, empty where there is none. A user who has no
        vectors of the wanted model version gets those of a cold-start user at this category; where the model
        does not know the category, those of a cold-start user anywhere. `reason` says so: versions are never
        mixed. A user whose short vector has expired gets the long one.

        `at_least` is where an event of the user stands in the source topic, (epoch, offset); of several users
        by id, or a list in their order, None where anything will do: until the vectors know these, they are
        read again, for `wait_s` at most. Then `behind` says whose own vector does not; a user without any is
        a cold-start user as always.

        Raises NoVectorsError where there is none of the wanted version, redis.RedisError where Redis does not
        answer.
        """
        exchange = self._begin(user_ids, category, at_least, wait_s)
        while exchange.asks:
            if exchange.pause_s:
                time.sleep(exchange.pause_s)
            found = self._pipeline(exchange.asks).execute(raise_on_error=False)
            exchange.answer(_fields(exchange.asks, found))
        return exchange.result


class AsyncReader(_RedisReader["redis.asyncio.Redis"]):
    """Reads as Reader does, with a client of redis.asyncio; to be used from one event loop."""

    async def topic_epoch(self, topic_id: str) -> int | None:
        """Return what Reader.topic_epoch does."""
        asked: Any = self._client.hget(TOPIC_EPOCHS_KEY, topic_id)
        found = await asked
        return None if found is None else int(found)

    async def read(
        self,
        user_ids: str | Sequence[str],
        category: str = "",
        *,
        at_least: AtLeast | None = None,
        wait_s: float = 0.0,
    ) -> list[UserVectors]:
        """Return what Reader.read does."""
        exchange = self._begin(user_ids, category, at_least, wait_s)
        while exchange.asks:
            if exchange.pause_s:
                await asyncio.sleep(exchange.pause_s)
            found = await self._pipeline(exchange.asks).execute(raise_on_error=False)
            exchange.answer(_fields(exchange.asks, found))
        return exchange.result


def _fields(asks: Sequence[Ask], found: Sequence[object]) -> list[Fields]:
    return [*fields_read([fields for _, fields in asks], found)]
