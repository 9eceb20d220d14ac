"""The live items of one model as a ranker holds them: it takes what changed, about once a second.

Needs neither torch nor Faust.
"""

import time
from collections.abc import Callable
from threading import Lock
from typing import cast

import msgspec
import numpy as np
import numpy.typing as npt
import redis

from models.arrays import Flags, Floats
from models.artifact.item_vectors import ItemVectors
from stream.serving.shared_lock import SharedLock
from stream.store.item_rows import POPULAR, ItemRows, ItemsHeader, log_popularity, rows_from_bytes
from stream.store.item_series import ItemSeries, Read
from stream.store.keys import ItemKeys

#: Seconds after which Redis is asked what has changed, and after which items that nobody renews are stale.
REFRESH_S, STALE_S = 1.0, 60.0


class LiveTable:
    """The rows as they are known: the artifact's items first, then new ones; see ItemRows.

    To be used by whoever holds `lock`.
    """

    def __init__(self, items: ItemVectors, popular: Floats) -> None:
        """Begin with the artifact's vectors (I, D), less what they have of the direction `popular` (D,)."""
        known, dimension = items.vectors.shape
        self.lock = SharedLock()
        self.item_ids = list(items.item_ids)
        self.row_of = dict(items.row_of)
        self._n = known
        self._vectors = np.zeros((known, dimension + 2), np.float32)
        self._vectors[:, :-2] = items.vectors - np.outer(items.vectors @ popular, popular)
        self._categories = items.categories.copy()
        self._is_there = np.ones(known, np.bool_)
        self._count = np.zeros((known, 2), np.float32)
        self._counted_ms = np.zeros(known, np.int64)
        self._header: ItemsHeader | None = None

    @property
    def vectors(self) -> Floats:
        """Return the vectors (n, D + 2): the last two coordinates are log popularities."""
        return self._vectors[: self._n]

    @property
    def categories(self) -> npt.NDArray[np.object_]:
        """Return the category id (n,) of each item, empty where it has none."""
        return self._categories[: self._n]

    @property
    def is_there(self) -> Flags:
        """Return which rows (n,) are items that may be shown."""
        return self._is_there[: self._n]

    def is_of(self, category: str) -> Flags:
        """Return which rows (n,) are items of a category that may be shown."""
        return self.is_there & np.asarray(self.categories == category, np.bool_)

    @property
    def weights(self) -> Floats:
        """Return what the log popularities count (2,): the last two coordinates of whoever is scored for."""
        return np.array(self._header.weights if self._header else (0.0, 0.0), np.float32)

    @property
    def header(self) -> ItemsHeader | None:
        """Return what this is the state of."""
        return self._header

    def take(self, header: ItemsHeader, parts: list[ItemRows]) -> None:
        """Become the state of a header: these rows replace theirs, later ones earlier ones."""
        for rows in parts:
            self._put(rows)
        self._header = header
        self._vectors[: self._n, -2:] = log_popularity(
            self._count[: self._n], self._counted_ms[: self._n], header.half_lives_ms, header.now_ms
        )

    def _put(self, rows: ItemRows) -> None:
        if not len(rows):
            return
        self._reserve(int(rows.row.max()) + 1)
        self._vectors[rows.row, :-2] = rows.vector
        self._count[rows.row], self._counted_ms[rows.row] = rows.count, rows.counted_ms
        self._is_there[rows.row] = ~rows.is_gone
        for row, item_id, category in zip(rows.row.tolist(), rows.item_ids, rows.categories, strict=True):
            if self.item_ids[row] != item_id:
                self._rename(row, item_id)
                self._categories[row] = category
        for place in np.flatnonzero(rows.is_gone).tolist():
            self._rename(int(rows.row[place]), "")

    def _rename(self, row: int, item_id: str) -> None:
        """Have this item at a row, where another may have been."""
        if self.row_of.get(self.item_ids[row]) == row:
            del self.row_of[self.item_ids[row]]
        self.item_ids[row] = item_id
        if item_id:
            self.row_of[item_id] = row

    def _reserve(self, rows: int) -> None:
        """Have so many rows; those between are no items."""
        if rows > len(self._vectors):
            room = max(rows, len(self._vectors) * 5 // 4 + 64) - len(self._vectors)
            self._vectors = np.pad(self._vectors, ((0, room), (0, 0)))
            self._count = np.pad(self._count, ((0, room), (0, 0)))
            self._counted_ms = np.pad(self._counted_ms, (0, room))
            self._is_there = np.pad(self._is_there, (0, room))
            self._categories = np.concatenate([self._categories, np.full(room, "", object)])
        self.item_ids += [""] * (rows - len(self.item_ids))
        self._n = max(self._n, rows)


class LiveItems:
    """Keeps the live items of the versions that a ranker uses; may be used from several threads."""

    def __init__(
        self,
        client: "redis.Redis",
        key_prefix: str = "user:",
        clock: Callable[[], float] = time.time,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client, self._prefix, self._clock, self._timer = client, key_prefix, clock, timer
        self._followed: dict[str, _Followed] = {}
        self._lock = Lock()

    def of(self, items: ItemVectors) -> tuple[LiveTable | None, str]:
        """Return the live items of this version, of the last second; or None, and why there are none."""
        followed = self._followed.get(items.version)
        if followed is None:
            with self._lock:
                keys = ItemKeys(self._prefix, items.version)
                made = _Followed(self._client, keys, items, self._clock, self._timer)
                followed = self._followed.setdefault(items.version, made)
        return followed.fresh()

    def keep(self, versions: set[str]) -> None:
        """Forget all others."""
        with self._lock:
            self._followed = {
                version: each for version, each in self._followed.items() if version in versions
            }


class _Followed:
    """The live items of one version."""

    def __init__(
        self,
        client: "redis.Redis",
        keys: ItemKeys,
        items: ItemVectors,
        clock: Callable[[], float],
        timer: Callable[[], float],
    ) -> None:
        self._client, self._keys, self._items = client, keys, items
        self._clock, self._timer = clock, timer
        self._series = ItemSeries(client, keys, len(items.item_ids), rows_from_bytes)
        self._table: LiveTable | None = None
        self._reason = "they are not read yet"
        self._asked_s = float("-inf")
        self._refreshing = Lock()

    def fresh(self) -> tuple[LiveTable | None, str]:
        """Return the table, None and the reason where it must not be used.

        One caller a second asks Redis; others meanwhile use what there is, but wait for the first.
        """
        if self._timer() - self._asked_s >= REFRESH_S and self._refreshing.acquire(blocking=not self._asked):
            try:
                if self._timer() - self._asked_s >= REFRESH_S:
                    self._refresh()
            finally:
                self._asked_s = self._timer()
                self._refreshing.release()
        table = self._table
        header = table.header if table else None
        if header and not self._reason and self._clock() * 1000 - header.written_at_ms > STALE_S * 1000:
            return None, f"no item learner has written for {STALE_S:g} s"
        return (None, self._reason) if self._reason else (table, "")

    @property
    def _asked(self) -> bool:
        return self._asked_s > float("-inf")

    def _refresh(self) -> None:
        try:
            self._reason = self._take()
        except redis.RedisError as error:  # what there is stays, until it is stale
            if self._table is None:
                self._reason = f"Redis does not answer ({error})"
        except (ValueError, IndexError, msgspec.MsgspecError) as error:  # of a learner of another version
            self._reason, self._table = f"what Redis has of them cannot be read ({error})", None

    def _take(self) -> str:
        """Take what is new; return why there is nothing to be used."""
        read = self._series.read(self._table.header if self._table else None)
        if isinstance(read, str):
            return read
        popular = self._popular(read)
        table = self._table if popular is None else LiveTable(self._items, popular)
        assert table is not None  # what changed is read only where there is one
        with table.lock.alone():
            table.take(read.header, read.rows)
        self._table = table
        return ""

    def _popular(self, read: Read[ItemRows]) -> Floats | None:
        """Return the direction (D,) of the artifact's popularity where a table begins: see POPULAR."""
        if not read.is_whole:
            return None
        found = cast(bytes | None, self._client.hget(self._keys.header, POPULAR))
        if found is None:
            raise redis.RedisError("the header of the live items is gone")
        return np.frombuffer(found, "<f4")
