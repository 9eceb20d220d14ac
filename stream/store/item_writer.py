"""Writing live items, or live inputs, to Redis: the only module that does. A snapshot is whole, or not there.

A snapshot is a delta: the rows that changed. Who has read the one before reads that alone. Chunks hold all
rows of a stretch of the table, for whoever begins; in turn, each that has changed is written anew, so that
deltas older than all chunks can go.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import redis

from models.arrays import Floats, Ints
from models.errors import TwintideError
from stream.store.item_rows import POPULAR, ItemsHeader
from stream.store.keys import ItemKeys
from stream.store.scripts import script

#: Rows of a chunk.
CHUNK_ROWS = 512
#: Snapshots between two writes of a chunk at least, and those that a reader may lag behind before it begins
#: anew.
CHUNK_EVERY, MAY_LAG = 60, 60
#: How long all of it is kept after the last snapshot (s), and after how long a chunk is written, or kept
#: longer where it did not change: before the deltas that it lacks are gone.
KEPT_S, RENEWED_S = 3600, 600

#: A run that begins is written so many chunks at a time.
CHUNKS_PER_TRIP = 32


class ReplacedError(TwintideError):
    """Another learner publishes the items of this model by now."""


class LostError(TwintideError):
    """Redis has lost live items: `begin` anew."""


class TableRows(Protocol):
    """n rows of a table: ItemRows, or InputRows."""

    @property
    def row(self) -> Ints: ...
    def __len__(self) -> int: ...
    def to_bytes(self, snapshot: int) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Scoring:
    """What readers make of the rows: see ItemsHeader. Live inputs score nothing: they have `known` alone."""

    known: int
    #: The direction (D,) of the artifact's frozen popularity.
    popular: Floats = field(default_factory=lambda: np.zeros(0, np.float32))
    weights: tuple[float, float] = (0.0, 0.0)
    half_lives_ms: tuple[float, float] = (1.0, 1.0)


class ItemWriter:
    """Publishes the live items, or inputs, of one model. Every method raises redis.RedisError."""

    def __init__(
        self,
        client: "redis.Redis",
        keys: ItemKeys,
        scoring: Scoring,
        rows_of: Callable[[int, int], TableRows],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._client, self._keys, self._scoring = client, keys, scoring
        #: Returns what is published of the rows from one to before another, the newest delta included.
        self.rows_of = rows_of
        self._clock = clock
        self._script = client.register_script(script("publish_items"))
        self._run = self._snapshot = 0
        #: Of each chunk: the snapshot that it holds, the first later one that changed it (0: none), and when
        #: it was written or kept longer.
        self._held = self._changed = np.zeros(0, np.int64)
        self._renewed_s = np.zeros(0)
        #: Deltas before this one are deleted.
        self._first_delta = 1
        #: Keys and arguments of a call that was not answered.
        self._unsent: tuple[list[str], list[bytes | str | int]] | None = None

    @property
    def run(self) -> int:
        """Return the number under which it publishes, 0 before Redis has taken what `begin` writes."""
        return self._run

    @property
    def snapshot(self) -> int:
        """Return the number of the newest snapshot."""
        return self._snapshot

    def begin(self, rows: int, now_ms: int) -> None:
        """Publish the table, of so many rows, whole; readers see it once all of it is there."""
        self._unsent, self._run = None, 0
        run = int(self._client.incr(self._keys.runs))
        self._snapshot, self._first_delta = 0, 1
        self._held = self._changed = np.zeros(0, np.int64)
        self._renewed_s = np.zeros(0)
        self._grow(rows)
        chunks = np.arange(len(self._held))
        for start in range(0, len(chunks), CHUNKS_PER_TRIP):
            pipeline = self._client.pipeline(transaction=False)
            for chunk in chunks[start : start + CHUNKS_PER_TRIP].tolist():
                pipeline.set(self._keys.chunk(run, chunk), self._chunk(chunk), ex=KEPT_S)
            pipeline.execute()
        self._run = run
        self._call(b"", {}, [], now_ms)

    def publish(self, delta: TableRows, rows: int, now_ms: int) -> int:
        """Publish a delta of a table that has so many rows now; return the bytes that a reader takes.

        Without a row in it, readers are only told that the learner is alive. Raises ReplacedError, LostError.
        What Redis did not take, or did not say that it took, `flush` sends again: call it before.
        """
        content = b""
        if len(delta):
            self._snapshot += 1
            self._grow(rows)
            content = delta.to_bytes(self._snapshot)
            touched = np.unique(delta.row // CHUNK_ROWS)
            touched = touched[self._changed[touched] == 0]
            self._changed[touched] = self._snapshot
        chunks = {chunk: self._chunk(chunk) for chunk in self._due().tolist()}
        chunks |= dict.fromkeys(self._to_renew(), b"")
        gone = range(self._first_delta, max(self._oldest() - MAY_LAG, self._first_delta))
        self._first_delta = gone.stop
        self._call(content, chunks, [self._keys.delta(self._run, each) for each in gone], now_ms)
        return len(content)

    def flush(self) -> None:
        """Send what was not answered yet; sent twice, it is there once."""
        if self._unsent is None:
            return
        keys, arguments = self._unsent
        answer = self._script(keys=keys, args=arguments)
        self._unsent = None
        if answer == 0:
            raise ReplacedError("another item learner has taken over the items of this model: this one ends")
        if answer == -1:
            raise LostError("Redis has lost live items: they are published anew")

    def stop(self, reason: str, now_ms: int) -> None:
        """Tell readers that what there is must not be used any more, and why."""
        self.flush()
        self._call(b"", {}, [], now_ms, reason)

    def delete(self) -> None:
        """Delete what is published, but for the counter of runs, unless another learner publishes by now."""
        if not self._run:
            return
        self.stop("the model is not live any more", 0)
        keys = [self._keys.header, *(self._keys.chunk(self._run, each) for each in range(len(self._held)))]
        keys += [self._keys.delta(self._run, each) for each in range(self._first_delta, self._snapshot + 1)]
        for start in range(0, len(keys), 1000):
            self._client.unlink(*keys[start : start + 1000])

    def _grow(self, rows: int) -> None:
        """Have chunks for so many rows; new ones are due at once."""
        added = -(-rows // CHUNK_ROWS) - len(self._held)
        if added > 0:
            self._held = np.concatenate([self._held, np.full(added, -CHUNK_EVERY)])
            self._changed = np.concatenate([self._changed, np.full(added, max(self._snapshot, 1))])
            self._renewed_s = np.concatenate([self._renewed_s, np.zeros(added)])

    def _due(self) -> Ints:
        """Return the chunks to write now: those that changed long ago, so many that all come in turn."""
        is_old = (self._snapshot - self._held >= CHUNK_EVERY) | (self._clock() - self._renewed_s > RENEWED_S)
        is_due = (self._changed > 0) & is_old
        due = np.flatnonzero(is_due)
        new = due[self._held[due] < 0]  # nobody could read the table without them
        old = due[self._held[due] >= 0]
        at_most = -(-len(self._held) // (CHUNK_EVERY // 2))
        return np.concatenate([new, old[np.argsort(self._changed[old], kind="stable")][:at_most]])

    def _to_renew(self) -> list[int]:
        """Return the chunks that would expire, although nothing in them changes."""
        is_old = (self._clock() - self._renewed_s > RENEWED_S) & (self._changed == 0)
        old = np.flatnonzero(is_old)[:CHUNKS_PER_TRIP]
        self._renewed_s[old] = self._clock()
        return [int(chunk) for chunk in old]

    def _oldest(self) -> int:
        """Return the first snapshot that is not in all chunks."""
        changed = self._changed[self._changed > 0]
        return int(changed.min()) if len(changed) else self._snapshot + 1

    def _chunk(self, number: int) -> bytes:
        """Return what a chunk holds now."""
        first = number * CHUNK_ROWS
        self._held[number], self._changed[number] = self._snapshot, 0
        self._renewed_s[number] = self._clock()
        return self.rows_of(first, first + CHUNK_ROWS).to_bytes(self._snapshot)

    def _call(
        self, delta: bytes, chunks: dict[int, bytes], gone: list[str], now_ms: int, stopped: str = ""
    ) -> None:
        header = ItemsHeader(
            run=self._run,
            snapshot=self._snapshot,
            oldest=self._oldest(),
            chunks=len(self._held),
            known=self._scoring.known,
            weights=self._scoring.weights,
            half_lives_ms=self._scoring.half_lives_ms,
            now_ms=now_ms,
            written_at_ms=int(self._clock() * 1000),
            stopped=stopped,
        )
        keys = [self._keys.header, self._keys.delta(self._run, self._snapshot)]
        keys += [*(self._keys.chunk(self._run, chunk) for chunk in chunks), *gone]
        arguments: list[bytes | str | int] = [self._run, self._snapshot, KEPT_S, len(chunks), delta]
        arguments += chunks.values()
        for name, value in header.values().items():
            arguments += [name, value]
        arguments += [POPULAR, self._scoring.popular.astype("<f4").tobytes()]
        self._unsent = keys, arguments
        self.flush()
