"""Reading user vectors, as an online ranker does: many users in one round trip, all of one model version."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import redis

from models.errors import TwintideError
from stream.layout import UNSEEN_USER, Vector, vector_from_bytes

#: Why a user got another vector than their own: never seen, or only encoded by another model version.
Reason = Literal["", "unseen", "other_model"]

_FIELDS = ("model", "vec", "long", "short", "ts", "n", "written_at", "seq", "format")


class NoVectorsError(TwintideError):
    """There is nothing to read yet, not even the vector of a user never seen."""


@dataclass(frozen=True, slots=True)
class UserVectors:
    """What a ranker gets for one user."""

    user_id: str
    #: The user vector and the two towers' it is mixed from, (D,) each.
    vec: Vector
    long: Vector
    short: Vector
    #: Version of the artifact; item vectors must be of the same.
    model: str
    #: Event time of the user's newest event (ms), and the number of events in the window.
    ts: int
    n: int
    #: Seconds since the vector was written.
    age_s: float
    #: Source offset of the newest event that the vector knows.
    seq: int
    #: Empty where the vector is the user's own; otherwise it is that of a user never seen.
    reason: Reason


class Reader:
    """Reads user vectors of one model version."""

    def __init__(
        self,
        client: "redis.Redis",
        *,
        key_prefix: str = "user:",
        model: str = "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Read with this client vectors of the version `model` alone; empty: of the worker's current one."""
        self._client = client
        self._key_prefix = key_prefix
        self._model = model
        self._clock = clock

    def read(self, user_ids: Sequence[str]) -> list[UserVectors]:
        """Return the vectors of these users, in order, from one round trip.

        A user who was never seen, or is stored under another model version, gets the vector of a user never
        seen, and `reason` says so: versions are never mixed. Raises NoVectorsError where no worker of the
        wanted version ever wrote, redis.RedisError where Redis does not answer.
        """
        pipeline = self._client.pipeline(transaction=False)
        for user_id in (UNSEEN_USER, *user_ids):
            pipeline.hmget(self._key_prefix + user_id, _FIELDS)
        unseen, *rows = cast(list[list[bytes | None]], pipeline.execute())
        if unseen[0] is None or (self._model and unseen[0] != self._model.encode()):
            found = unseen[0].decode() if unseen[0] else "nothing"
            raise NoVectorsError(
                f"no vectors of model {self._model or '(any)'} at {self._key_prefix}*, but {found}: "
                "start a worker with that artifact"
            )
        return [self._user_vectors(user_id, row, unseen) for user_id, row in zip(user_ids, rows, strict=True)]

    def _user_vectors(
        self, user_id: str, row: Sequence[bytes | None], unseen: Sequence[bytes | None]
    ) -> UserVectors:
        reason: Reason = ""
        if row[0] is None:
            reason = "unseen"
        elif row[0] != unseen[0]:
            reason = "other_model"
        fields = cast(Sequence[bytes], row if not reason else unseen)
        model, vec, long, short, ts, n, written_at, seq, vector_format = fields
        kind = vector_format.decode()
        return UserVectors(
            user_id=user_id,
            vec=vector_from_bytes(vec, kind),
            long=vector_from_bytes(long, kind),
            short=vector_from_bytes(short, kind),
            model=model.decode(),
            ts=int(ts),
            n=int(n),
            age_s=self._clock() - int(written_at) / 1000,
            seq=int(seq),
            reason=reason,
        )
