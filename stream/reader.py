"""Reading user vectors, as an online ranker does: many users in one round trip, all of one model version."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import redis

from models.errors import TwintideError
from stream.layout import OTHER, UNSEEN_USER, Vector, models_key, vector_from_bytes
from stream.registry import MODELS_FIELDS, Models, parse_models

#: Why a user got another vector than their own: never seen, or only encoded by another model version.
Reason = Literal["", "unseen", "other_model"]

_SLOT = ("model", "vec", "long", "short", "ts", "n", "written_at", "seq", "format")
_BOTH_SLOTS = (*_SLOT, *(OTHER + name for name in _SLOT))

#: How often a read is tried again because the serving model changed under it.
ATTEMPTS = 5

Fields = Sequence[bytes | None]


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
    """Reads user vectors of one model version.

    All vectors of an answer are of one version, also while the serving model changes: which model serves is
    read before the users, in the same round trip, and each user's vector comes from whichever slot holds that
    model. Where a switch falls between the two, the vectors are of the model that served a moment ago: its
    slots are still there, as a model is live for long before and after it serves. A user who has vectors, but
    none of that model, is looked at once more, and the serving model after them: where it is the same, the
    user really has none; where it changed, everything is read again.
    """

    def __init__(
        self,
        client: "redis.Redis",
        *,
        key_prefix: str = "user:",
        model: str = "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Read with this client vectors of the version `model` alone; empty: of the one that serves."""
        self._client = client
        self._key_prefix = key_prefix
        self._model = model
        self._clock = clock
        #: Two models were live when last looked: then both slots are asked for at once.
        self._are_two_live = False

    def read(self, user_ids: Sequence[str]) -> list[UserVectors]:
        """Return the vectors of these users, in order, from one round trip.

        A user who was never seen, or has no vectors of the wanted model version, gets the vector of a user
        never seen, and `reason` says so: versions are never mixed. Raises NoVectorsError where there is none
        of the wanted version, redis.RedisError where Redis does not answer.
        """
        wanted_ids = [UNSEEN_USER, *user_ids]
        for _ in range(ATTEMPTS):
            models, rows = self._fetch(wanted_ids, _BOTH_SLOTS if self._are_two_live else _SLOT)
            version = self._version(models)
            slots = [_slot_of(row, version) for row in rows]
            missed = [place for place, row in enumerate(rows) if row[0] and not slots[place]]
            if missed:
                rows_again, models = self._fetch_then_models([wanted_ids[place] for place in missed])
                if self._version(models) != version:
                    continue
                for place, row in zip(missed, rows_again, strict=True):
                    slots[place] = _slot_of(row, version)
            break
        unseen = slots[0]
        if unseen is None:
            raise NoVectorsError(
                f"no vectors of model {version} for users never seen at {self._key_prefix}: "
                "start a worker with that artifact"
            )
        return [
            self._user_vectors(user_id, slot or unseen, _reason(row, slot))
            for user_id, row, slot in zip(user_ids, rows[1:], slots[1:], strict=True)
        ]

    def _fetch(self, user_ids: Sequence[str], fields: Sequence[str]) -> tuple[Models | None, list[Fields]]:
        pipeline = self._client.pipeline(transaction=False)
        pipeline.hmget(models_key(self._key_prefix), MODELS_FIELDS)
        for user_id in user_ids:
            pipeline.hmget(self._key_prefix + user_id, fields)
        models, *rows = cast(list[list[bytes | None]], pipeline.execute())
        return self._parsed(models), list(rows)

    def _fetch_then_models(self, user_ids: Sequence[str]) -> tuple[list[Fields], Models | None]:
        pipeline = self._client.pipeline(transaction=False)
        for user_id in user_ids:
            pipeline.hmget(self._key_prefix + user_id, _BOTH_SLOTS)
        rows = cast(list[Fields], pipeline.execute())
        models = cast(list[bytes | None], self._client.hmget(models_key(self._key_prefix), MODELS_FIELDS))
        return rows, self._parsed(models)

    def _parsed(self, fields: Fields) -> Models | None:
        models = parse_models(fields)
        self._are_two_live = models is not None and models.second is not None
        return models

    def _version(self, models: Models | None) -> str:
        """Return the version to read. Raises NoVectorsError where none serves."""
        if self._model:
            return self._model
        if models is None:
            raise NoVectorsError(f"no model serves at {models_key(self._key_prefix)}: start a worker")
        return models.serving.version

    def _user_vectors(self, user_id: str, slot: Sequence[bytes], reason: Reason) -> UserVectors:
        model, vec, long, short, ts, n, written_at, seq, vector_format = slot
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


def _slot_of(row: Fields, version: str) -> Sequence[bytes] | None:
    """Return the slot that holds this version, of one slot's fields or of both slots'."""
    for start in range(0, len(row), len(_SLOT)):
        if row[start] == version.encode():
            return cast(Sequence[bytes], row[start : start + len(_SLOT)])
    return None


def _reason(row: Fields, slot: Sequence[bytes] | None) -> Reason:
    if slot:
        return ""
    return "other_model" if row[0] else "unseen"
