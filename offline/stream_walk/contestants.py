"""Who ranks on a walk: the learner of items, the model as it was trained, and what only counts."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product

import numpy as np

from models.arrays import Doubles, Flags, Floats, Ints, Words
from models.artifact.artifact import Artifact
from models.artifact.live_items import LiveItemsSettings
from models.items.learner import ItemLearner
from models.items.rows import Items
from models.items.starts import start_vectors
from models.items.trained import trained_of
from models.log.times import HOUR_MS
from models.windows.histories import Histories
from models.windows.live_inputs import LiveEvents, make_live_inputs, newest_events
from offline.stream_walk.counts import HALF_LIVES_MS, DecayedCounts
from offline.stream_walk.events import WalkedLog
from offline.stream_walk.peers import Peer
from offline.stream_walk.ranking import MISSING, rank, weighed_ranks
from offline.stream_walk.walk import Case

#: Weights that are tried of one count, and of each of two.
SINGLE_WEIGHTS, PAIR_WEIGHTS = (0.25, 0.5, 0.75, 1.0, 1.25), (0.25, 0.5, 0.75)


def all_ways() -> Doubles:
    """Return the ways to weigh popularity that are tried (W, 4): place of a half-life, weight; the same."""
    halves = range(len(HALF_LIVES_MS))
    ways = [(0, 0.0, 0, 0.0)]
    ways += [(place, weight, place, 0.0) for place, weight in product(halves, SINGLE_WEIGHTS)]
    for (one, other), weights in product(combinations(halves, 2), product(PAIR_WEIGHTS, PAIR_WEIGHTS)):
        ways.append((one, weights[0], other, weights[1]))
    return np.array(ways)


def name_of(way: Doubles) -> str:
    """Return what a way is called."""
    one, other = (f"{HALF_LIVES_MS[int(way[at])] / HOUR_MS:.3g} h" for at in (0, 2))
    return f"{way[1]:g} x {one}" + (f" + {way[3]:g} x {other}" if way[3] else "")


class Weighed:
    """Ranks by scores and weighed popularity: of each user's first event with an item in an hour."""

    def __init__(self, stream: WalkedLog, ways: Doubles) -> None:
        self.ways = ways
        self._stream, self._names = stream, [name_of(way) for way in ways]
        self._counts = DecayedCounts(stream.item_count, HALF_LIVES_MS)
        self._is_first = first_in_hour(stream)
        #: Earlier counts that are shown instead of those of now.
        self.shown: DecayedCounts | None = None

    def snapshot(self) -> DecayedCounts:
        """Return the counts as they are now."""
        return copy.deepcopy(self._counts)

    def count(self, begin: int, end: int) -> None:
        """Count rows."""
        rows = slice(begin, end)
        items = self._stream.item[rows].astype(np.int64)
        self._counts.add(items, self._stream.log.time_ms[rows], self._is_first[rows])

    def ranks(self, case: Case, base: Doubles) -> Mapping[str, int]:
        """Return the rank of the target by scores (C,) with each way."""
        found = np.empty(len(self.ways), np.int64)
        logs = (self.shown or self._counts).logs(case.time_ms)
        weighed_ranks(base, logs, case.is_ranked, case.target, self.ways, found)
        return dict(zip(self._names, found.tolist(), strict=True))


def first_in_hour(stream: WalkedLog) -> Flags:
    """Return whether each row (R,) is its user's first with its item in its hour."""
    hours = stream.log.time_ms // HOUR_MS
    order = np.lexsort((np.arange(len(stream)), hours, stream.item, stream.user))
    columns = [each[order] for each in (stream.user, stream.item, hours)]
    is_first = np.zeros(len(stream), np.bool_)
    changes = [each[1:] != each[:-1] for each in columns]
    is_first[order] = np.append(True, changes[0] | changes[1] | changes[2])
    return is_first


class Counting:
    """A peer."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    def learn(self, begin: int, end: int, lasts: Sequence[Sequence[int]]) -> None:
        """Learn rows."""
        self._peer.learn(begin, end, lasts)

    def ranks(self, case: Case) -> Mapping[str, int]:
        """Return the rank of the target by each variant."""
        scores = self._peer.scores(case)
        return {name: rank(each, case.is_ranked, case.target) for name, each in scores.items()}


class Learning:
    """The learner of items, whose published vectors are weighed with popularity."""

    def __init__(
        self,
        stream: WalkedLog,
        artifact: Artifact,
        live: LiveItemsSettings,
        asked: Ints,
        ways: Doubles,
        lag_ms: int = 0,
    ) -> None:
        self.learner = ItemLearner.start(artifact, live)
        self._stream, self._weighed, self._artifact = stream, Weighed(stream, ways), artifact
        self._windows = windows_before(stream, artifact, asked)
        self._place = {row: place for place, row in enumerate(asked.tolist())}
        self._lag_ms = lag_ms
        self._shown: Items | None = None
        self._has_transformers = has_transformers(artifact)
        self._encoder = artifact.model.on_cpu()

    def learn(self, begin: int, end: int, lasts: Sequence[Sequence[int]]) -> None:
        """Learn rows; where there is a lag, what is shown is what was known when it last passed."""
        if self._lag_ms:
            now_ms = int(self._stream.log.time_ms[end])
            middle = int(np.searchsorted(self._stream.log.time_ms, now_ms // self._lag_ms * self._lag_ms))
            if middle > begin:
                self._learn(begin, middle)
                self._shown, self._weighed.shown = self.learner.snapshot(), self._weighed.snapshot()
                begin = middle
        self._learn(begin, end)

    def _learn(self, begin: int, end: int) -> None:
        self._weighed.count(begin, end)
        self.learner.learn(*self._stream.columns(begin, end))

    def ranks(self, case: Case) -> Mapping[str, int]:
        """Return the rank of the target by each way to weigh popularity."""
        return self._weighed.ranks(case, self._scores(self._user(case)))

    def _user(self, case: Case) -> Floats:
        """Return the user's vector (D,) as a worker makes it of the published inputs, unrotated."""
        if not self._has_transformers:
            user_id = self._stream.log.user.values[case.user]
            own: Floats = self.learner.shown.user_vectors([user_id], self._shown)[0]
            return own
        rows, histories = self._windows.of(self._place[case.row])
        live = self._live(self._stream.hashes[self._stream.item[rows]], histories)
        user = self._encoder.encode(replace(histories, live=live)).user
        rotation = self._artifact.towers.rotation
        found: Floats = (user if rotation is None else user @ rotation.numpy().T)[0]
        found[-1] = 0
        return found

    def _live(self, hashes: Words, histories: Histories) -> LiveEvents:
        """Return what a worker would read of the items (E,) of one user's events."""
        reach = self._artifact.settings.features.short_events
        newest = newest_events(histories.starts, reach)
        row = self.learner.rows_of(hashes[newest])
        is_live = self.learner.shown.has_inputs(row, self._shown)
        own, first, which = np.unique(row[is_live], True, True)
        vectors = self.learner.shown.inputs(own, self._shown)
        found = np.full(len(hashes), -1, np.int64)
        found[newest[is_live]] = which
        return LiveEvents(make_live_inputs("", hashes[newest][is_live][first], vectors, reach), found)

    def _scores(self, user: Floats) -> Doubles:
        scores = np.full(self._stream.item_count, -np.inf)
        by_row = self.learner.shown.scores(user, self._shown)
        rows = np.flatnonzero(by_row > -np.inf)
        scores[self._stream.codes_of(self.learner.hashes[rows])] = by_row[rows]
        return scores


class Frozen:
    """The model as it was trained: its items alone, or new ones too as unknown items of their category."""

    def __init__(self, stream: WalkedLog, artifact: Artifact, asked: Ints, ways: Doubles | None) -> None:
        self._stream = stream
        self._weighed = None if ways is None else Weighed(stream, ways)
        self._outputs = artifact.item_vectors
        users = artifact.encode(windows_before(stream, artifact, asked).histories).user
        if self._weighed:
            trained, rotation = trained_of(artifact), artifact.towers.rotation
            _, self._outputs = start_vectors(
                trained.starts, categories_of_items(stream, artifact), stream.hashes
            )
            self._outputs[stream.known_codes] = trained.outputs
            users = users if rotation is None else users @ rotation.numpy().T
        self._users = dict(zip(asked.tolist(), users, strict=True))

    def learn(self, begin: int, end: int, lasts: Sequence[Sequence[int]]) -> None:
        """Count rows; the vectors stay."""
        if self._weighed:
            self._weighed.count(begin, end)

    def ranks(self, case: Case) -> Mapping[str, int]:
        """Return the rank of the target, by each way to weigh popularity where there are any."""
        found = self._outputs @ self._users[case.row]
        if self._weighed:
            return self._weighed.ranks(case, found.astype(np.float64))
        scores = np.full(self._stream.item_count, -np.inf)
        scores[self._stream.known_codes] = found
        return {"": rank(scores, case.is_ranked, case.target) if scores[case.target] > -np.inf else MISSING}


def categories_of_items(stream: WalkedLog, artifact: Artifact) -> Ints:
    """Return the model's index of the category (C,) that each item's first row names; 0 for no row."""
    log, first = stream.log, stream.first_row
    in_log = first < len(stream)
    index = artifact.vocabulary.category_indices(log.category.values.tolist())
    categories = np.zeros(stream.item_count, np.int64)
    categories[in_log] = index[log.category.codes[first[in_log]]]
    return categories


def has_transformers(artifact: Artifact) -> bool:
    """Return whether a user's vector is more than what the direct path gives."""
    towers = artifact.towers
    return bool(towers.short_scale.any() or towers.long_scale.any())


@dataclass(frozen=True, slots=True)
class Windows:
    """The windows of A users: their rows (E,) of the log, and what the model knows of these."""

    rows: Ints
    histories: Histories

    def of(self, place: int) -> tuple[Ints, Histories]:
        """Return the rows and the history of one."""
        begin, end = self.histories.starts[place : place + 2]
        return self.rows[begin:end], self.histories.take(np.array([place]))


def windows_before(stream: WalkedLog, artifact: Artifact, asked: Ints) -> Windows:
    """Return the windows of the users of the rows asked (A,), as they were just before each."""
    log, vocabulary = stream.log, artifact.vocabulary
    items = vocabulary.item_indices(log.item.values.tolist())[log.item.codes]
    categories = vocabulary.category_indices(log.category.values.tolist())[log.category.codes]
    categories = vocabulary.categories_of(items, categories)
    order = np.lexsort((np.arange(len(stream)), stream.user))
    place = np.empty(len(stream), np.int64)
    place[order] = np.arange(len(stream))
    first = np.searchsorted(stream.user[order], stream.user[asked])
    window, ends = artifact.settings.window, place[asked]
    begins = np.maximum(first, ends - window.max_events)
    spans = [order[begin:end] for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)]
    spans = [
        rows[log.time_ms[rows] >= (log.time_ms[rows[-1]] - window.horizon_ms)] if len(rows) else rows
        for rows in spans
    ]
    rows = np.concatenate([*spans, np.zeros(0, np.int64)])
    starts = np.concatenate(([0], np.cumsum([len(each) for each in spans])))
    found = Histories(items[rows], categories[rows], log.behaviour[rows], log.time_ms[rows], starts)
    return Windows(rows, found)
