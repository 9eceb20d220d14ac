"""The best items for a user: user and item vectors of one version, seen items left out.

Needs neither torch nor Faust.
"""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from threading import Lock

import numpy as np
import numpy.typing as npt

from models.arrays import Flags, Floats, Ints
from models.artifact.item_vectors import ItemVectors, load_item_vectors
from models.artifact.local_store import CURRENT
from models.errors import UnreachableError
from models.location import BucketUrl, location
from stream.serving.exploration import Shelf, drawn_rows, explored_count, interleaved, random_of
from stream.serving.item_index import ExactIndex, Index, best
from stream.serving.live_items import LiveItems, LiveTable
from stream.serving.read_protocol import UserVectors
from stream.serving.reader import Reader
from stream.serving.recommendation import Recommendation

#: Versions of item vectors that are kept in memory: the serving one, and one before or after it.
KEPT_VERSIONS = 2
#: Pause before a bucket that did not answer is asked again (s).
RETRY_AFTER_S = 5.0


class Recommender:
    """Ranks the items of the version that a user's vector is of.

    `store` is the directory of artifacts, or its URL (s3://, gs://, file://); the item vectors of a version
    are loaded from it when the first vector of that version comes, or ahead of it by `prepare`.
    """

    def __init__(
        self,
        reader: Reader,
        store: str | Path | BucketUrl,
        make_index: Callable[[Floats], Index] = ExactIndex,
        clock: Callable[[], float] = time.monotonic,
        live_items: LiveItems | None = None,
    ) -> None:
        """Read users with the reader, and live items from its Redis, or by `live_items` if given."""
        self._reader = reader
        self._live_items = live_items or (reader.live_items() if isinstance(reader, Reader) else None)
        where = location(store)
        self._store = where.parent if where.name == CURRENT else where
        self._make_index = make_index
        self._loaded: dict[str, tuple[ItemVectors, Index]] = {}
        #: When each was asked for last.
        self._used_at: dict[str, float] = {}
        self._lock = Lock()
        self._clock = clock
        #: Version -> why a bucket did not give it, and when it is asked again.
        self._failed: dict[str, tuple[str, float]] = {}

    def recommend(
        self,
        user_id: str,
        k: int = 10,
        *,
        exclude: Collection[str] = (),
        category: str | None = None,
        at_category: str = "",
        fresh: bool = True,
        explore: float = 0.0,
        seed: int | None = None,
    ) -> Recommendation:
        """Return the k best items for a user; see `rank`.

        Who has no vectors gets those of `at_category`, which the page or the query is about, or of
        `category`; see `Reader.read`.
        """
        (user,) = self._reader.read([user_id], at_category or category or "")
        return self.rank(user, k, exclude=exclude, category=category, fresh=fresh, explore=explore, seed=seed)

    def rank(
        self,
        user: UserVectors,
        k: int = 10,
        *,
        exclude: Collection[str] = (),
        category: str | None = None,
        fresh: bool = True,
        explore: float = 0.0,
        seed: int | None = None,
    ) -> Recommendation:
        """Return the k best items for a user as read (by AsyncReader, too).

        Left out are the items of `exclude` and of the user's history, where the worker stores it. With
        `category`, only its items: all of them are scored. Raises ArtifactError where the store does not have
        the vector's version.

        With `fresh`, items are as the item learner has them a second ago, new ones among them, and all are
        scored. Where it is down or publishes nothing for this model, they are the artifact's, and `not_live`
        says why.

        `explore` is the share of the list, on average, that goes to items of which little is known: rare ones
        and young ones, drawn more often the nearer they are to the user, in any place. With a `seed` they are
        the same at each call.
        """
        found = self._best(user, k, exclude, category, fresh)
        if explore == 0:
            return found
        random = random_of(seed, user.user_id)
        both = self.with_explored(found, k, explore, random, exclude=exclude, category=category, fresh=fresh)
        places, drawn = range(len(both.item_ids)), both.explored_items
        others = places[: len(places) - drawn][: k - drawn]
        return both.in_order(interleaved(others, places[len(places) - drawn :], random))

    def with_explored(
        self,
        found: Recommendation,
        k: int,
        explore: float,
        random: np.random.Generator,
        *,
        exclude: Collection[str] = (),
        category: str | None = None,
        fresh: bool = True,
    ) -> Recommendation:
        """Return what was found, and behind it what is to explore in a list of k: none of its first k.

        What is explored stands there alone. See `rank`, whose arguments they are. Raises SettingsError where
        explore is no share.
        """
        user, count = found.user, explored_count(k, explore, random)
        left_out = {*exclude, *user.history, *found.item_ids[:k]}
        items, _ = self.prepare(user.model)
        table, _ = self._live(items, fresh)
        known = len(items.item_ids)
        if table is None:
            every: Flags = np.broadcast_to(np.True_, known)
            shelf = Shelf(items.row_of, items.vectors, items.categories, every, None, known)
            rows = drawn_rows(shelf, user.vec, count, random, left_out, category)
            return _joined(found, items, rows, items.vectors[rows] @ user.vec, known)
        with table.lock.shared():
            taught, popularity = table.vectors[:, :-2], table.vectors[:, -2:]
            shelf = Shelf(table.row_of, taught, table.categories, table.is_there, popularity, known)
            rows = drawn_rows(shelf, user.vec, count, random, left_out, category)
            return _joined(found, table, rows, table.vectors[rows] @ _query(table, user, category), known)

    def _best(
        self, user: UserVectors, k: int, exclude: Collection[str], category: str | None, fresh: bool
    ) -> Recommendation:
        items, index = self.prepare(user.model)
        table, reason = self._live(items, fresh)
        if table is not None:
            return _rank_live(table, user, k, {*exclude, *user.history}, category, len(items.item_ids))
        left_out = {items.row_of[item] for item in {*exclude, *user.history} if item in items.row_of}
        if category is None:
            rows, scores = index.search(user.vec, min(k + len(left_out), len(items.item_ids)))
        else:
            members = np.flatnonzero(items.categories == category)
            places, scores = best(items.vectors[members] @ user.vec, k + len(left_out))
            rows = members[places]
        kept = [place for place, row in enumerate(rows.tolist()) if row not in left_out][:k]
        return Recommendation(
            user,
            [items.item_ids[row] for row in rows[kept]],
            [float(score) for score in scores[kept]],
            reason,
            categories=items.categories[rows[kept]].tolist(),
        )

    def score(self, user: UserVectors, item_ids: Sequence[str], *, fresh: bool = True) -> Floats:
        """Return the score (C,) of each item for a user as read, NaN where there is none; see `rank`."""
        items, _ = self.prepare(user.model)
        table, _ = self._live(items, fresh)
        if table is None:
            return _scores(items.vectors, _rows(items.row_of, item_ids), user.vec)
        with table.lock.shared():
            return _scores(table.vectors, _rows(table.row_of, item_ids), _query(table, user, None))

    def categories(self, user: UserVectors, item_ids: Sequence[str], *, fresh: bool = True) -> list[str]:
        """Return the category of each item in the model of a user as read, empty where it has none."""
        items, _ = self.prepare(user.model)
        table, _ = self._live(items, fresh)
        if table is None:
            return _categories(items.categories, _rows(items.row_of, item_ids))
        with table.lock.shared():
            return _categories(table.categories, _rows(table.row_of, item_ids))

    def _live(self, items: ItemVectors, fresh: bool) -> tuple[LiveTable | None, str]:
        """Return the live items, or None and why there are none."""
        if not fresh:
            return None, "they are not asked for"
        return self._live_items.of(items) if self._live_items else (None, "there is no Redis")

    def prepare(self, version: str) -> tuple[ItemVectors, Index]:
        """Load a version's item vectors where that is not done yet: before it serves, nobody has to wait.

        Raises ArtifactError, and UnreachableError where a bucket does not answer or refuses. Then it is not
        asked for RETRY_AFTER_S, so that callers do not queue before one that is silent.
        """
        if found := self._loaded.get(version):
            self._used_at[version] = self._clock()
            return found
        with self._lock:
            if version not in self._loaded:
                self._load(version)
            return self._loaded[version]

    def _load(self, version: str) -> None:
        reason, not_before = self._failed.get(version, ("", 0.0))
        if self._clock() < not_before:
            raise UnreachableError(reason)
        try:
            items = load_item_vectors(self._store / version)
        except UnreachableError as error:
            self._failed[version] = str(error), self._clock() + RETRY_AFTER_S
            raise
        self._failed.pop(version, None)
        self._loaded[version] = items, self._make_index(items.vectors)
        self._used_at[version] = self._clock()
        # Not the oldest: after a rollback that serves, and the one after it is what nobody wants.
        for old in sorted(self._loaded, key=self._used_at.__getitem__)[:-KEPT_VERSIONS]:
            del self._loaded[old], self._used_at[old]
        if self._live_items:
            self._live_items.keep(set(self._loaded))


def _rank_live(
    table: LiveTable, user: UserVectors, k: int, left_out: set[str], category: str | None, known: int
) -> Recommendation:
    """Return the k best live items for a user; those of rows from `known` on are new."""
    with table.lock.shared():
        members = np.flatnonzero(table.is_there if category is None else table.is_of(category))
        out = np.array([table.row_of[item] for item in left_out if item in table.row_of], np.int64)
        members = members[~np.isin(members, out)] if len(out) else members
        vectors = table.vectors
        # Copying all rows but a few would cost more than scoring them.
        scores = vectors @ _query(table, user, category) if category is None else None
        found = scores[members] if scores is not None else vectors[members] @ _query(table, user, category)
        places, top = best(found, k)
        rows = members[places]
        item_ids = [table.item_ids[row] for row in rows]
        categories = table.categories[rows].tolist()
    is_new = (rows >= known).tolist()
    return Recommendation(user, item_ids, [float(score) for score in top], "", categories, is_new)


def _joined(
    found: Recommendation, table: ItemVectors | LiveTable, rows: Ints, scores: Floats, known: int
) -> Recommendation:
    """Return what was found, and these rows behind it alone; those from `known` on are new."""
    item_ids, categories = [table.item_ids[row] for row in rows.tolist()], table.categories[rows].tolist()
    return found.with_explored(item_ids, scores.tolist(), categories, (rows >= known).tolist())


def _rows(row_of: Mapping[str, int], item_ids: Sequence[str]) -> Ints:
    """Return the row (C,) of each item, -1 where there is none."""
    return np.fromiter((row_of.get(item_id, -1) for item_id in item_ids), np.int64, len(item_ids))


def _scores(vectors: Floats, rows: Ints, query: Floats) -> Floats:
    """Return the score (C,) of each row, NaN where it is -1."""
    scores = np.full(len(rows), np.nan, np.float32)
    is_known = rows >= 0
    scores[is_known] = vectors[rows[is_known]] @ query
    return scores


def _categories(categories: npt.NDArray[np.object_], rows: Ints) -> list[str]:
    return [categories[row] if row >= 0 else "" for row in rows.tolist()]


def _query(table: LiveTable, user: UserVectors, category: str | None) -> Floats:
    """Return what to multiply live items with (D + 2,); popularity alone for who is unknown to the model."""
    weights = table.weights
    # Who is unknown gets what is popular now, of the category where one is wanted.
    is_unknown = user.is_cold_start and (user.reason != "category" or category is not None)
    taste = np.zeros_like(user.vec) if is_unknown and weights.any() else user.vec
    return np.concatenate([taste, weights])
