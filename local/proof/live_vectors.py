"""What Redis holds at one moment: which models are live, and the vectors of some users with each of them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import cast

import msgspec
import redis

from models.errors import TwintideError
from models.windows.recent import event_count, recent_of_window
from models.windows.window import WindowError
from stream.settings import Settings
from stream.store.keys import FIELDS, OTHER, TOPIC_EPOCHS_KEY, category_key
from stream.store.model_registry import ModelRegistry
from stream.store.registry_state import ChangeProgress, Models
from stream.store.user_keys import fields_read
from stream.store.vectors import Vector, vector_from_bytes

#: Users of one round trip.
USERS_PER_READ = 500

#: How often it is tried to read everything while no model begins or ends to serve.
READ_ATTEMPTS = 5


class StoredVectors(msgspec.Struct, frozen=True, gc=False):
    """What is stored of one user and one model; a vector is empty where it has expired."""

    epoch: int
    #: Offset of the last event that the vectors know.
    seq: int
    #: Event time of the newest event (ms), and how many events the window held.
    ts: int
    n: int
    vector_format: str
    vec: bytes
    long: bytes
    short: bytes
    history: bytes
    #: Number of the live inputs that items were read by; empty: they entered as they were trained.
    inputs: str = ""

    def vectors(self) -> dict[str, Vector]:
        """Return the vectors that are there, (D,) each, by their field."""
        values = {"vec": self.vec, "long": self.long, "short": self.short}
        return {name: vector_from_bytes(value, self.vector_format) for name, value in values.items() if value}

    def is_history_of(self, window: bytes) -> bool:
        """Return whether the events that are stored, if any are, are the newest of a window."""
        try:
            return self.history == recent_of_window(window, event_count(self.history))
        except WindowError:
            return False


#: Model version -> what is stored.
Slots = Mapping[str, StoredVectors]


@dataclass(frozen=True, slots=True)
class LiveVectors:
    """Redis at one moment."""

    models: Models
    progress: ChangeProgress
    #: Epoch of the topic; None where Redis knows none.
    epoch: int | None
    users: Mapping[bytes, Slots]


def live_models(client: "redis.Redis", settings: Settings) -> Models:
    """Return which models are live. Raises TwintideError where none serves."""
    models = ModelRegistry(client, settings.key_prefix).read()
    if models is None:
        raise TwintideError(
            f"no model serves users {settings.key_prefix}* at {settings.redis.place}: set REDIS_URL and "
            "TWINTIDE_KEY_PREFIX to the worker's, or TWINTIDE_ENCODE=false where there are windows alone"
        )
    return models


def read_live_vectors(
    client: "redis.Redis", settings: Settings, topic_id: str, user_keys: Iterable[bytes]
) -> LiveVectors:
    """Return what Redis holds of these users. Raises TwintideError where no model serves."""
    keys, registry = list(user_keys), ModelRegistry(client, settings.key_prefix)
    prefix = settings.key_prefix.encode()
    for _ in range(READ_ATTEMPTS):
        models = live_models(client, settings)
        epoch = cast(bytes | None, client.hget(TOPIC_EPOCHS_KEY, topic_id))
        slots = read_slots(client, [prefix + key for key in keys])
        progress = registry.progress()
        if live_models(client, settings).generation == models.generation:
            users = dict(zip(keys, slots, strict=True))
            return LiveVectors(models, progress, None if epoch is None else int(epoch), users)
    raise TwintideError("the models that serve change all the time: try again when a rollout is over")


def read_cold_start(client: "redis.Redis", settings: Settings, categories: Sequence[str]) -> dict[str, Slots]:
    """Return what is stored for cold-start users at these categories; at "", where none is known."""
    prefix = settings.key_prefix
    keys = [category_key(prefix, category) if category else prefix for category in categories]
    slots = read_slots(client, [key.encode() for key in keys])
    return dict(zip(categories, slots, strict=True))


def read_slots(client: "redis.Redis", keys: Sequence[bytes]) -> list[Slots]:
    """Return what the HASHes of these keys hold, by model."""
    wanted = [*FIELDS, *(OTHER + name for name in FIELDS)]
    found: list[Slots] = []
    left = iter(keys)
    while portion := list(islice(left, USERS_PER_READ)):
        pipeline = client.pipeline(transaction=False)
        for key in portion:
            pipeline.hmget(key.decode(), wanted)
        answers = pipeline.execute(raise_on_error=False)
        found += [_slots(fields) for fields in fields_read([wanted] * len(portion), answers)]
    return found


def _slots(fields: Sequence[bytes | None]) -> Slots:
    places = range(0, len(fields), len(FIELDS))
    slots = [dict(zip(FIELDS, fields[place : place + len(FIELDS)], strict=True)) for place in places]
    return {slot["model"].decode(): _stored(slot) for slot in slots if slot["model"]}


def _stored(slot: Mapping[str, bytes | None]) -> StoredVectors:
    return StoredVectors(
        epoch=int(slot["epoch"] or 0),
        seq=int(slot["seq"] or 0),
        ts=int(slot["ts"] or 0),
        n=int(slot["n"] or 0),
        vector_format=(slot["format"] or b"float32").decode(),
        vec=slot["vec"] or b"",
        long=slot["long"] or b"",
        short=slot["short"] or b"",
        history=slot["history"] or b"",
        inputs=(slot["inputs"] or b"").decode(),
    )
