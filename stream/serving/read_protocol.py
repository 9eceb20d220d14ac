"""The rules of reading: what to ask Redis for, and which vector each user gets.

A read is a generator that yields what to ask Redis for in one round trip, is sent the answers, and returns
the users' vectors. It does no input or output, so the reader that blocks and the one for asyncio share every
rule.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import msgspec

from models.errors import TwintideError
from stream.serving.exchange import Ask, Fields, Steps
from stream.serving.slot_cache import SlotCache
from stream.store.keys import COLD_START_USER, OTHER, category_key, models_key
from stream.store.registry_state import MODELS_FIELDS, parse_models
from stream.store.vectors import Vector, vector_from_bytes

#: Why a user got another vector than their own:
#:   long         the short vector has expired: the long one stands for both
#:   category     the user has no vectors of this model: those of a cold-start user at the given category
#:   cold_start   the same, and no category is given or the model does not know it: those of a cold-start user
#:                anywhere, who gets what is popular
#:   other_model  as cold_start, but the user has vectors of another model
Reason = Literal["", "long", "category", "cold_start", "other_model"]

_SLOT = ("model", "vec", "long", "short", "ts", "n", "written_at", "seq", "format", "history", "inputs")
_BOTH_SLOTS = (*_SLOT, *(OTHER + name for name in _SLOT))

#: How often a read is tried again because the serving model changed under it.
READ_ATTEMPTS = 5


class NoVectorsError(TwintideError):
    """There is nothing to read yet, not even the vector of a cold-start user."""


@dataclass(frozen=True, slots=True)
class UserVectors:
    """What a ranker gets for one user."""

    user_id: str
    #: The user vector and the two towers' it is mixed from, (D,) each; a model without towers has no long and
    #: short, (0,).
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
    #: Empty where the vector is the user's own and whole.
    reason: Reason
    #: The items of the newest events, oldest first, where the worker stores them (TWINTIDE_STORE_HISTORY).
    history: tuple[str, ...] = ()
    #: Number of the live inputs that its items were read by; empty: they entered as they were trained.
    inputs: str = ""


@dataclass(frozen=True, slots=True)
class ReaderSettings:
    """What is read, and what is kept of it."""

    key_prefix: str = "user:"
    #: Version of the artifact to read; empty: whichever serves.
    model: str = ""
    #: Users kept in this process (0: none), and for how long at most (s).
    cached_users: int = 0
    cached_s: float = 1.0


class ReadProtocol:
    """The rules of reading, with what is remembered between reads."""

    def __init__(
        self,
        settings: ReaderSettings,
        clock: Callable[[], float] = time.time,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings
        self._clock = clock
        self._cache = SlotCache(settings.cached_users, settings.cached_s, timer)
        #: Whether two models were live at the last read: then both slots are asked for at once.
        self._are_two_live = False

    def read(self, user_ids: Sequence[str], category: str = "") -> Steps[list[UserVectors]]:
        """Return the vectors of these users in order; see Reader.read."""
        prefix = self.settings.key_prefix
        keys = [prefix + user_id for user_id in user_ids]
        cold_start, at_category = prefix + COLD_START_USER, category_key(prefix, category)
        slots, mismatched = yield from self._read([cold_start, *keys], at_category if category else "")
        stand_in = slots.get(at_category)
        found = []
        for user_id, key in zip(user_ids, keys, strict=True):
            slot = slots.get(key)
            reason: Reason = ""
            if slot is None or slot[_LONG] is None or not (slot[_VEC] or slot[_LONG]):
                slot, reason = stand_in, "category"
                if slot is None:
                    slot, reason = slots[cold_start], "other_model" if key in mismatched else "cold_start"
            elif slot[_VEC] is None or slot[_SHORT] is None:
                reason = "long"
            found.append(self._user_vectors(user_id, slot, reason))
        return found

    def _read(self, keys: Sequence[str], at_category: str) -> Steps[tuple[dict[str, Fields], set[str]]]:
        """Return the slots, of one version, that these keys have, and which keys have others alone.

        Also that of the key `at_category`, if it is not empty and any other is asked for. Raises
        NoVectorsError where the first key has none.
        """
        wanted = dict.fromkeys(keys)
        kept_version, slots = self._cache.get([*wanted, at_category])
        mismatched: set[str] = set()
        version = self.settings.model
        for _ in range(READ_ATTEMPTS):
            missing = [key for key in wanted if key not in slots]
            if not missing:
                break  # what is kept of users is their own: no other has to stand in
            if at_category and at_category not in slots:
                missing.append(at_category)
            version, fetched, mismatched = yield from self._fetch(missing)
            self._cache.put(version, fetched)
            if slots and kept_version != version:
                slots = {}  # the serving model has changed since these were kept
                continue
            if mismatched and (yield from self._serving()) != version:
                continue  # it changed just now
            slots |= fetched
            break
        if keys[0] not in slots:
            raise NoVectorsError(
                f"no vectors of model {version} for cold-start users at {keys[0]}: start a worker with that "
                "artifact"
            )
        return slots, mismatched

    def _fetch(self, keys: Sequence[str]) -> Steps[tuple[str, dict[str, Fields], set[str]]]:
        """Return the version to read, the keys' slots of it, and which have slots, but none of it."""
        fields = _BOTH_SLOTS if self._are_two_live else _SLOT
        models_fields, *rows = yield [self._ask_models, *((key, fields) for key in keys)]
        version = self._version(models_fields)
        slots, mismatched = _slots(keys, rows, version)
        if mismatched:
            rows = yield [(key, _BOTH_SLOTS) for key in mismatched]
            others, mismatched = _slots(mismatched, rows, version)
            slots |= others
        return version, slots, set(mismatched)

    def _serving(self) -> Steps[str]:
        """Return the version to read."""
        (models_fields,) = yield [self._ask_models]
        return self._version(models_fields)

    @property
    def _ask_models(self) -> Ask:
        return models_key(self.settings.key_prefix), MODELS_FIELDS

    def _version(self, models_fields: Fields) -> str:
        """Return the version to read. Raises NoVectorsError where none serves."""
        models = parse_models(models_fields)
        self._are_two_live = models is not None and models.second is not None
        if self.settings.model:
            return self.settings.model
        if models is None:
            raise NoVectorsError(f"no model serves at {models_key(self.settings.key_prefix)}: start a worker")
        return models.serving.version

    def _user_vectors(self, user_id: str, slot: Fields, reason: Reason) -> UserVectors:
        model, vec, long, short, ts, n, written_at, seq, vector_format, history, inputs = cast(
            Sequence[bytes], slot
        )
        kind = vector_format.decode()
        return UserVectors(
            user_id=user_id,
            vec=vector_from_bytes(long if reason == "long" else vec, kind),
            long=vector_from_bytes(long, kind),
            short=vector_from_bytes(long if reason == "long" else short, kind),
            model=model.decode(),
            ts=int(ts),
            n=int(n),
            age_s=self._clock() - int(written_at) / 1000,
            seq=int(seq),
            reason=reason,
            history=tuple(msgspec.json.decode(history, type=list[str])) if history else (),
            inputs=(inputs or b"").decode(),
        )


def _slots(keys: Sequence[str], rows: Sequence[Fields], version: str) -> tuple[dict[str, Fields], list[str]]:
    """Return the slots that hold this version, and which keys have slots, but none that does."""
    slots: dict[str, Fields] = {}
    mismatched = []
    wanted = version.encode()
    for key, row in zip(keys, rows, strict=True):
        for start in range(0, len(row), len(_SLOT)):
            if row[start] == wanted:
                slots[key] = row[start : start + len(_SLOT)]
                break
        else:
            if row[0] is not None:
                mismatched.append(key)
    return slots, mismatched


_VEC, _LONG, _SHORT = (_SLOT.index(name) for name in ("vec", "long", "short"))
