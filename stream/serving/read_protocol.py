"""The rules of reading: what to ask Redis for, and which vector each user gets.

A read is a generator that yields what to ask Redis for in one round trip, is sent the answers, and returns
the users' vectors. It does no input or output, so the reader that blocks and the one for asyncio share every
rule.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast

from models.errors import TwintideError
from models.windows.recent import recent_item_ids
from stream.serving.exchange import Ask, Fields, Steps
from stream.serving.slot_cache import SlotCache
from stream.store.keys import COLD_START_USER, OTHER, category_key, models_key
from stream.store.registry_state import MODELS_FIELDS, parse_models
from stream.store.vectors import Vector, vector_from_bytes

#: Why a user got another vector than their own, or what is the matter with their own:
#:   behind       it does not know yet what it was to know `at_least`
#:   stale        it was written longer ago than `max_age_s`
#:   long         the short vector has expired: the long one stands for both
#:   category     the user has no vectors of this model: those of a cold-start user at the given category
#:   cold_start   the same, and no category is given or the model does not know it: those of a cold-start user
#:                anywhere, who gets what is popular
#:   other_model  as cold_start, but the user has vectors of another model
Reason = Literal["", "behind", "stale", "long", "category", "cold_start", "other_model"]

#: Whoever has one of these has no vectors of their own.
COLD_START_REASONS: tuple[Reason, ...] = ("category", "cold_start", "other_model")

#: A place in the source topic: the topic's epoch, and the offset in the user's partition.
Position = tuple[int, int]
#: What vectors must know: one position for all users, of each by id, or of each in their order (None: any).
AtLeast = Position | Mapping[str, Position] | list[Position | None]

_SLOT = (
    *("model", "vec", "long", "short", "ts", "n", "written_at", "epoch", "seq", "format"),
    *("history", "inputs"),
)
_BOTH_SLOTS = (*_SLOT, *(OTHER + name for name in _SLOT))

#: How often a read is tried again because the serving model changed under it.
READ_ATTEMPTS = 5

#: Pause before a user who is behind is read again (s): this at first, twice as long each time, at most that.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.002, 0.05


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
    #: The newest events, where the worker stores them (TWINTIDE_STORE_HISTORY); see models/windows/recent.py.
    recent: bytes = b""
    #: Epoch of the source topic.
    epoch: int = 0
    #: Number of the live inputs that its items were read by; empty: they entered as they were trained.
    inputs: str = ""

    @property
    def history(self) -> tuple[str, ...]:
        """Return the items of the newest events, oldest first. Raises WindowError where they are damaged."""
        return recent_item_ids(self.recent)

    @property
    def is_cold_start(self) -> bool:
        """Return whether the vector is that of a cold-start user, which stands in."""
        return self.reason in COLD_START_REASONS

    def knows(self, position: Position) -> bool:
        """Return whether the vector is the user's own, of all events up to a place in the source topic."""
        return not self.is_cold_start and (self.epoch, self.seq) >= position


@dataclass(frozen=True, slots=True)
class ReaderSettings:
    """What is read, and what is kept of it."""

    key_prefix: str = "user:"
    #: Version of the artifact to read; empty: whichever serves.
    model: str = ""
    #: Users kept in this process (0: none), and for how long at most (s).
    cached_users: int = 0
    cached_s: float = 1.0
    #: A vector that was written longer ago than this is stale (s); 0: none is.
    max_age_s: float = 0.0

    def __post_init__(self) -> None:
        if not self.max_age_s >= 0:
            raise TwintideError(f"max_age_s is {self.max_age_s}; it must be at least 0, which is no limit")


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
        self._timer = timer
        self._cache = SlotCache(settings.cached_users, settings.cached_s, timer)
        #: Whether two models were live at the last read: then both slots are asked for at once.
        self._are_two_live = False

    def read(
        self,
        user_ids: Sequence[str],
        category: str = "",
        at_least: AtLeast | None = None,
        wait_s: float = 0.0,
    ) -> Steps[list[UserVectors]]:
        """Return the vectors of these users in order; see Reader.read."""
        if at_least is None:
            return (yield from self._read_users(user_ids, category))
        wanted = _wanted(user_ids, at_least)
        deadline, pause_s = self._timer() + wait_s, FIRST_PAUSE_S
        while True:
            asked = zip(user_ids, wanted, strict=True)
            self._cache.drop(self.settings.key_prefix + user_id for user_id, position in asked if position)
            found = yield from self._read_users(user_ids, category)
            behind = [at is not None and not each.knows(at) for each, at in zip(found, wanted, strict=True)]
            left_s = deadline - self._timer()
            if not any(behind) or left_s <= 0:
                return [
                    _behind(each) if is_behind else each
                    for each, is_behind in zip(found, behind, strict=True)
                ]
            yield min(pause_s, left_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _read_users(self, user_ids: Sequence[str], category: str) -> Steps[list[UserVectors]]:
        """Return the vectors of these users as they are."""
        prefix = self.settings.key_prefix
        keys = [prefix + user_id for user_id in user_ids]
        cold_start, at_category = prefix + COLD_START_USER, category_key(prefix, category)
        slots, mismatched = yield from self._read([cold_start, *keys], at_category if category else "")
        stand_in = slots.get(at_category)
        found = []
        for user_id, key in zip(user_ids, keys, strict=True):
            slot = None if key == cold_start else slots.get(key)  # nobody has the empty id
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
        model, vec, long, short, ts, n, written_at, epoch, seq, vector_format, recent, inputs = cast(
            Sequence[bytes], slot
        )
        kind, age_s = vector_format.decode(), self._clock() - int(written_at) / 1000
        is_whole = reason != "long"
        if reason not in COLD_START_REASONS and 0 < self.settings.max_age_s < age_s:
            reason = "stale"
        return UserVectors(
            user_id=user_id,
            vec=vector_from_bytes(vec if is_whole else long, kind),
            long=vector_from_bytes(long, kind),
            short=vector_from_bytes(short if is_whole else long, kind),
            model=model.decode(),
            ts=int(ts),
            n=int(n),
            age_s=age_s,
            seq=int(seq),
            reason=reason,
            recent=recent or b"",
            epoch=int(epoch or 0),
            inputs=(inputs or b"").decode(),
        )


def _wanted(user_ids: Sequence[str], at_least: AtLeast) -> list[Position | None]:
    """Return what the vectors of each of these users must know, None where nothing. Raises TwintideError."""
    if isinstance(at_least, Mapping):
        return [at_least.get(user_id) for user_id in user_ids]
    if not isinstance(at_least, list):
        return [at_least] * len(user_ids)
    if len(at_least) != len(user_ids):
        raise TwintideError(f"at_least has {len(at_least)} positions for {len(user_ids)} users")
    return at_least


def _behind(user: UserVectors) -> UserVectors:
    """Return a user whose own vector does not know enough; that of a stranger has a reason already."""
    return user if user.is_cold_start else replace(user, reason="behind")


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
