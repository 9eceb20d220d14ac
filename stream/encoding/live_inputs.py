"""What items have become, for encoding: taken from Redis once a second, by a thread of its own.

A snapshot is replaced whole and never changed, so a batch that is encoded has one of them from its beginning
to its end.
"""

import logging
import time
from collections.abc import Callable, Collection
from threading import Event, Thread

import msgspec
import numpy as np
import redis

from models.artifact.artifact import Artifact
from models.ids.hash_table import make_hash_table
from models.windows.live_inputs import LiveInputs
from stream import metrics
from stream.store.input_rows import InputRows, input_rows_from_bytes, number_of
from stream.store.item_rows import ItemsHeader
from stream.store.item_series import ItemSeries
from stream.store.keys import ItemKeys

logger = logging.getLogger(__name__)

#: Seconds between two polls, and after which inputs that nobody renews are stale, as rankers have it.
POLL_S, STALE_S = 1.0, 60.0


class LiveInputsFollower:
    """Keeps the live inputs of some models; `of` may be called from any thread, and never waits."""

    def __init__(
        self, client: "redis.Redis", key_prefix: str = "user:", clock: Callable[[], float] = time.time
    ) -> None:
        self._client, self._prefix, self._clock = client, key_prefix, clock
        self._followed: dict[str, _Followed] = {}

    def follow(self, artifact: Artifact) -> None:
        """Keep those of this model too, from the next poll on."""
        keys = ItemKeys(self._prefix, artifact.version, "inputs")
        followed = _Followed(self._client, keys, artifact, self._clock)
        self._followed = {**self._followed, artifact.version: followed}

    def keep(self, versions: Collection[str]) -> None:
        """Forget all but those of these models."""
        for version in self._followed.keys() - set(versions):
            _show_nothing(version)
        self._followed = {version: each for version, each in self._followed.items() if version in versions}

    def of(self, version: str) -> LiveInputs | None:
        """Return a model's inputs, None where there are none that may be used."""
        followed = self._followed.get(version)
        return followed.inputs if followed else None

    def poll(self) -> None:
        """Take what has changed."""
        for followed in self._followed.values():
            followed.poll()

    def start(self) -> None:
        """Poll for as long as the process lives."""
        Thread(target=self._run, name="live-inputs", daemon=True).start()

    def _run(self) -> None:
        never, due = Event(), time.monotonic()
        while True:
            self.poll()
            due = max(due + POLL_S, time.monotonic())
            never.wait(due - time.monotonic())


class _Followed:
    """The live inputs of one model."""

    def __init__(
        self, client: "redis.Redis", keys: ItemKeys, artifact: Artifact, clock: Callable[[], float]
    ) -> None:
        self._series = ItemSeries(client, keys, len(artifact.item_ids), input_rows_from_bytes)
        self._version, self._clock = artifact.version, clock
        self._reach = artifact.settings.features.short_events
        self._dimension = artifact.items.dimension
        self._header: ItemsHeader | None = None
        self._held = self._nothing()
        self._reason = ""
        #: What may be used now.
        self.inputs: LiveInputs | None = None

    def poll(self) -> None:
        """Become what Redis has; where it does not answer, stay until that is stale."""
        reason = ""
        try:
            reason = self._take()
        except redis.RedisError as error:
            if self._header is None:
                reason = f"Redis does not answer ({error})"
        except (ValueError, msgspec.MsgspecError) as error:
            reason = f"what Redis has of them cannot be read ({error})"
        if not reason and self._header and self._clock() - self._header.written_at_ms / 1000 > STALE_S:
            reason = f"no item learner has written for {STALE_S:g} s"
        self.inputs = None if reason else self._held
        self._show(reason)

    def _take(self) -> str:
        """Take what is new; return why there is nothing to be used."""
        read = self._series.read(self._header)
        if isinstance(read, str):
            return read
        number = number_of(read.header.run, read.header.snapshot)
        held = self._nothing() if read.is_whole else self._held
        if number != held.number:
            self._held = with_rows(held, number, read.rows)
        self._header = read.header
        return ""

    def _nothing(self) -> LiveInputs:
        none = np.zeros(0, np.int64)
        values = np.zeros((0, self._dimension), np.int8)
        table = make_hash_table(none.astype(np.uint64), none)
        return LiveInputs("", table, values, np.zeros(0, np.float32), self._reach)

    def _show(self, reason: str) -> None:
        if reason != self._reason:
            what = f"as they were trained: {reason}" if reason else "as the item learner has them"
            logger.info("model %s: items enter users' vectors %s", self._version, what)
        self._reason = reason
        if self.inputs is None or self._header is None:
            _show_nothing(self._version)
            return
        items = int(np.count_nonzero(self.inputs.table.slots >= 0))
        metrics.live_inputs.labels(self._version).set(items)
        written_at_s = self._header.written_at_ms / 1000
        metrics.live_inputs_timestamp_seconds.labels(self._version).set(written_at_s)


def with_rows(inputs: LiveInputs, number: str, parts: Collection[InputRows]) -> LiveInputs:
    """Return inputs with these rows in the places of theirs, later parts over earlier ones."""
    count = max([len(inputs.scale), *(int(rows.row.max(initial=-1)) + 1 for rows in parts)])
    values = np.zeros((count, inputs.values.shape[1]), np.int8)
    scale, hashes = np.zeros(count, np.float32), np.zeros(count, np.uint64)
    is_there, before = np.zeros(count, np.bool_), len(inputs.scale)
    values[:before], scale[:before], hashes[:before] = inputs.values, inputs.scale, inputs.table.hashes
    is_there[inputs.table.slots[inputs.table.slots >= 0]] = True
    is_same = True
    for rows in parts:
        is_same &= bool((rows.hash == hashes[rows.row]).all() and (is_there[rows.row] == ~rows.is_gone).all())
        values[rows.row], scale[rows.row], hashes[rows.row] = rows.values, rows.scale, rows.hash
        is_there[rows.row] = ~rows.is_gone
    is_same &= count == before
    table = inputs.table if is_same else make_hash_table(hashes, np.flatnonzero(is_there))
    return LiveInputs(number, table, values, scale, inputs.reach)


def _show_nothing(version: str) -> None:
    metrics.live_inputs.labels(version).set(0)
