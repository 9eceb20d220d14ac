"""The learner of items: a stream of events in, item vectors and popularity out, from a model's as trained.

Pure: no Kafka, no Redis, no clock; the same events in the same order give the same bits, however they are cut
into batches, and also when the learner was written down and resumed on the way.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from models.arrays import Doubles, Flags, Floats, Ints, Words
from models.artifact.artifact import Artifact
from models.artifact.live_items import LiveItemsSettings
from models.ids.hashes import hashes_of
from models.ids.texts import Texts, texts_of
from models.ids.vocabulary import indices_of_places
from models.items.health import Health, health_of
from models.items.kernels import FREED_PER_EVENT, learn_events
from models.items.pairs import Pairs, make_pairs, members, remember_all
from models.items.rows import (
    DUPLICATE,
    KNOWN_SQUARES,
    LEARNED,
    LONG_AGO_MS,
    NEW_SQUARES,
    NEWEST_MS,
    REPEATED,
    STEP,
    Batch,
    Items,
    Room,
    Rules,
    Stream,
)
from models.items.slots import FREE, OLDEST, USED, find, find_all, forget, make_slots, release
from models.items.starts import start_vectors
from models.items.tables import (
    fill_known,
    from_arrays,
    make_items,
    make_stream,
    make_users,
    to_arrays,
    used,
    with_room,
    with_rows,
)
from models.items.trained import Trained, trained_of
from models.items.vectors import score_shown, user_vector
from models.windows.fold import EventColumns

State = Mapping[str, np.ndarray[Any, Any]]


@dataclass(frozen=True, slots=True)
class LearnerSettings:
    """How much a learner holds; what must be the same wherever live items are scored is in the artifact."""

    #: Items that the model does not know, at most; the one whose last event is oldest gives way.
    max_new_items: int = 300_000
    #: Users whose last events are held, at most; the one who was active least recently gives way.
    max_users: int = 1_000_000
    #: Different (user, item, hour) that are remembered at least, so that each counts once.
    remembered_pairs: int = 1_000_000
    #: A new item without an event for so long is gone (ms of event time).
    item_ttl_ms: int = 14 * 86_400_000
    #: An item's own vectors are published from so many different users on (5 at most are told apart).
    min_readers: int = 5
    #: Negatives of each event, and the last events of which they are drawn.
    negatives: int = 32
    recent_events: int = 4_096
    #: Seed of the drawing.
    seed: int = 0


class PublishedItems(NamedTuple):
    """What may be shown of R items.

    item_ids, categories (R,) texts, a category "" where none is known; inputs, outputs (R, D) float32 in the
    artifact's own space, rotated where it is, so that a user vector of its towers scores them; counts (R, 2)
    float64, decayed up to counted_ms (R,): see `popularity_of`.
    """

    item_ids: list[str]
    categories: list[str]
    inputs: Floats
    outputs: Floats
    counts: Doubles
    counted_ms: Ints


class ItemLearner:
    """All items of a model and of its stream, learning on event by event.

    Rows: the first I are the model's items, in its order; an item keeps its row until it is gone, and the row
    may then be another's. `item_ids[row]` is "" for a row that is free.
    """

    def __init__(self, artifact: Artifact, live: LiveItemsSettings, settings: LearnerSettings) -> None:
        """Not to be called: `start` and `resume` are."""
        self.artifact, self.live, self.settings = artifact, live, settings
        self.trained: Trained = trained_of(artifact, live.own)
        vocabulary, features = artifact.vocabulary, artifact.settings.features
        names = ["", "", *vocabulary.category_ids]
        self.item_ids = list(vocabulary.item_ids)
        self.categories = [names[category] for category in vocabulary.item_categories.tolist()]
        #: Ids of items that were published, maybe, and are gone; for the publisher to take and clear.
        self.removed: list[str] = []
        known, dimension = self.trained.inputs.shape
        self._items, self._item_slots = make_items(known + 1_024, dimension), make_slots(known + 1_024)
        self._users, self._user_slots = make_users(1_024, features.short_events), make_slots(1_024)
        self._pairs: Pairs = make_pairs(settings.remembered_pairs)
        self._stream = make_stream(settings.recent_events)
        self._rules = _rules(artifact, live, settings)
        self._room = _room(dimension, features.short_events, settings.negatives)

    @classmethod
    def start(
        cls, artifact: Artifact, live: LiveItemsSettings, settings: LearnerSettings | None = None
    ) -> "ItemLearner":
        """Return a learner that has seen no event. ArtifactError where the model scores by cosine."""
        learner = cls(artifact, live, settings or LearnerSettings())
        hashes = hashes_of(texts_of(learner.item_ids))
        tables = learner._items, learner._item_slots, learner.trained
        fill_known(*tables, artifact.vocabulary.item_categories, hashes, KNOWN_SQUARES)
        return learner

    @classmethod
    def resume(
        cls,
        artifact: Artifact,
        live: LiveItemsSettings,
        state: State,
        settings: LearnerSettings | None = None,
    ) -> "ItemLearner":
        """Return the learner of a `state` of the same artifact and settings, as if it had never stopped."""
        learner = cls(artifact, live, settings or LearnerSettings())
        held, dimension = artifact.settings.features.short_events, learner.trained.inputs.shape[1]
        items = make_items(len(state["items/is_used"]) + 1_024, dimension)
        users = make_users(len(state["users/is_used"]) + 1_024, held)
        learner._items, learner._item_slots = from_arrays("items", items, state)
        learner._users, learner._user_slots = from_arrays("users", users, state)
        learner._stream = Stream(*(state[f"stream/{each}"].copy() for each in Stream._fields))
        remember_all(learner._pairs, state["pairs/newer"], state["pairs/older"])
        learner.item_ids, learner.categories, learner.removed = (
            _from_text(state, each) for each in ("item_ids", "categories", "removed")
        )
        return learner

    def state(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return all that `resume` needs beside the artifact and the settings, as arrays of its own.

        items/..., users/... have a row for each row ever used; of the items', `items/revision` says which
        changed since an earlier state.
        """
        newer, older = members(self._pairs)
        return {
            **to_arrays("items", self._items, self._item_slots),
            **to_arrays("users", self._users, self._user_slots),
            **{f"stream/{name}": column.copy() for name, column in self._stream._asdict().items()},
            "pairs/newer": newer,
            "pairs/older": older,
            **_to_text("item_ids", self.item_ids),
            **_to_text("categories", self.categories),
            **_to_text("removed", self.removed),
        }

    def learn(self, user_ids: Sequence[str], events: EventColumns) -> int:
        """Go through E events in the order of the stream; return how many were learned, each one step.

        user_ids and events are what `stream.events.incoming.read_records` returns; `events.offset` is not
        looked at. Not learned are those that came before, those of a user who had the item in the same hour
        (neither count), and those of the model's past (`learned_until_ms`), which are counted.
        """
        before = int(self._stream.numbers[LEARNED])
        batch = self._batch(user_ids, events)
        self._make_room(batch)
        new_rows = np.empty(len(events), np.int64)
        freed = np.empty(((FREED_PER_EVENT + 1) * len(events), 2), np.int64)
        tables = self._items, self._item_slots, self._users, self._user_slots, self._pairs, self._stream
        count = learn_events(batch, *tables, self.trained, self._rules, self._room, new_rows, freed)
        self._rename(events, new_rows, freed[:count])
        return int(self._stream.numbers[LEARNED]) - before

    def _batch(self, user_ids: Sequence[str], events: EventColumns) -> Batch:
        return Batch(
            users=hashes_of(texts_of(user_ids)),
            user=events.user,
            item=hashes_of(events.item),
            category=indices_of_places(self.artifact.vocabulary.categories.find(events.category)),
            behaviour=events.behaviour,
            time_ms=events.time_ms,
            event_hash=events.event_hash,
        )

    def _make_room(self, batch: Batch) -> None:
        """Have a free row for each item and user that may be new, up to the limits."""
        items = min(self._rules.max_items, int(self._item_slots.ends[USED]) + len(np.unique(batch.item)))
        users = min(self._rules.max_users, int(self._user_slots.ends[USED]) + len(batch.users))
        self._items, self._item_slots = with_room(self._items, self._item_slots, items)
        self._users, self._user_slots = with_room(self._users, self._user_slots, users)

    def _rename(self, events: EventColumns, new_rows: Ints, freed: Ints) -> None:
        """Keep the ids of the rows that were given away and taken, in the order in which they were."""
        at = np.flatnonzero(new_rows >= 0)
        missing = int(self._item_slots.ends[USED]) - len(self.item_ids)
        self.item_ids += [""] * missing
        self.categories += [""] * missing
        taken = [(event, 1, row) for event, row in zip(at.tolist(), new_rows[at].tolist(), strict=True)]
        for event, is_new, row in sorted([*((event, 0, row) for event, row in freed.tolist()), *taken]):
            if not is_new:
                self._clear(row)
            else:
                self.item_ids[row] = _text(events.item, event)
                self.categories[row] = _text(events.category, event)

    def _clear(self, row: int) -> None:
        self.removed.append(self.item_ids[row])
        self.item_ids[row] = self.categories[row] = ""

    @property
    def now_ms(self) -> int:
        """The stream's clock: the time of the newest event, but for clocks that are far ahead of it."""
        return int(self._stream.numbers[NEWEST_MS])

    @property
    def step(self) -> int:
        """How many events it went through: the newest revision that a row can have."""
        return int(self._stream.numbers[STEP])

    @property
    def counts_of_events(self) -> dict[str, int]:
        """How many events were learned, came again ("duplicate"), or counted no more in their hour."""
        numbers = self._stream.numbers
        names = {"learned": LEARNED, "duplicate": DUPLICATE, "repeated": REPEATED}
        return {name: int(numbers[place]) for name, place in names.items()}

    @property
    def inputs(self) -> Floats:
        """What enters a user's vector (n, D), a view, unrotated and not fit to be shown: see `published`."""
        return self._items.inputs[: len(self.item_ids)]

    @property
    def outputs(self) -> Floats:
        """What scores (n, D), a view as `inputs`; the last coordinate is 0."""
        return self._items.outputs[: len(self.item_ids)]

    @property
    def readers(self) -> Ints:
        """How many different users each row (n,) has had from the stream, 5 at most."""
        return self._items.readers[: len(self.item_ids)]

    @property
    def revision(self) -> Ints:
        """The step at which each row (n,) was changed last, 0 for never."""
        return self._items.revision[: len(self.item_ids)]

    @property
    def hashes(self) -> Words:
        """The 64 bits by which each row's item (n,) is known (`models.ids.hashes`)."""
        return self._item_slots.hashes[: len(self.item_ids)]

    @property
    def is_there(self) -> Flags:
        """Whether each row (n,) has an item."""
        return used(self._item_slots)[: len(self.item_ids)]

    @property
    def is_known(self) -> Flags:
        """Whether each row (n,) is an item of the model."""
        found: Flags = self._items.trained[: len(self.item_ids)] >= 0
        return found

    def rows_of(self, hashes: Words) -> Ints:
        """Return the row of each item (n,) by its hash, -1 where there is none."""
        found = np.empty(len(hashes), np.int64)
        find_all(self._item_slots, hashes, found)
        return found

    def popularity(self, now_ms: int) -> Doubles:
        """Return log(1 + decayed count) of each row (n, 2) at a time."""
        count = len(self.item_ids)
        items = self._items
        return popularity_of(items.counts[:count], items.counted_ms[:count], self.live.half_lives_ms, now_ms)

    def changed_since(self, revision: int) -> Ints:
        """Return the rows that changed after that step, the last changed first.

        What may be shown of them, `published` knows: below `min_readers` readers, nothing but their counts.
        """
        count = len(self.item_ids)
        rows = np.flatnonzero((self.revision > revision) & used(self._item_slots)[:count])
        newest_first: Ints = rows[np.argsort(-self.revision[rows], kind="stable")]
        return newest_first

    def published(self, rows: Ints) -> PublishedItems:
        """Return what may be shown of rows (R,), as `changed_since` returns them.

        An item with fewer than `min_readers` readers has its vectors as trained, a new one those with which
        it began: nobody's taste is in them.
        """
        items, trained = self._items, self.trained
        inputs, outputs = items.inputs[rows], items.outputs[rows]
        own, few = items.trained[rows], items.readers[rows] < self.settings.min_readers
        known, new = few & (own >= 0), few & (own < 0)
        inputs[known], outputs[known] = trained.inputs[own[known]], trained.outputs[own[known]]
        inputs[new], outputs[new] = start_vectors(
            trained.starts, items.category[rows[new]], self.hashes[rows[new]]
        )
        rotation = self.artifact.towers.rotation
        if rotation is not None:
            outputs = outputs @ rotation.numpy()
        ids = [self.item_ids[row] for row in rows.tolist()]
        categories = [self.categories[row] for row in rows.tolist()]
        return PublishedItems(ids, categories, inputs, outputs, items.counts[rows], items.counted_ms[rows])

    def expire(self, now_ms: int) -> int:
        """Free new items without an event since `item_ttl_ms` before a time; return how many.

        A stream that flows needs no call: each event frees what its time finds expired.
        """
        slots, freed = self._item_slots, 0
        before_ms = now_ms - self.settings.item_ttl_ms
        while (row := int(slots.ends[OLDEST])) >= 0 and self._items.last_ms[row] < before_ms:
            self._free(row)
            freed += 1
        return freed

    def forget_item(self, item_id: str) -> bool:
        """Free an item's row, one of the model's too; return whether there was one. Seen again, it is new."""
        row = find(self._item_slots, hashes_of(texts_of([item_id]))[0])
        if row >= 0:
            self._free(row)
        return row >= 0

    def _free(self, row: int) -> None:
        slots = self._item_slots
        if self._items.trained[row] < 0:
            release(slots, row)
        else:
            forget(slots, row)
            slots.older[row], slots.ends[FREE] = slots.ends[FREE], row
            self._items.trained[row] = -1
        self._items.generation[row] += 1
        self._items.readers[row], self._items.counted_ms[row] = 0, LONG_AGO_MS
        self._clear(row)

    def forget_user(self, user_id: str) -> bool:
        """Free a user's last events; return whether there were any.

        What they added to counts and vectors is a part of sums, and cannot be told apart: docs/items.md.
        """
        bits = hashes_of(texts_of([user_id]))[0]
        readers = self._items.reader_hashes
        readers[readers == np.uint32(bits >> np.uint64(32))] = 0
        row = find(self._user_slots, bits)
        if row >= 0:
            release(self._user_slots, row)
        return row >= 0

    def snapshot(self) -> Items:
        """Return what all rows are now, as arrays of its own."""
        return Items._make(column.copy() for column in self._items)

    def user_vectors(self, user_ids: Sequence[str], items: Items | None = None) -> Floats:
        """Return the vectors (B, D) of users by the direct path over their last events' published inputs.

        Unrotated; the last coordinate is 0; a user who is not held has the cold start's. items: an earlier
        `snapshot`; else as they are now.
        """
        items = self._items if items is None else with_rows(items, len(self._items.category))
        found = np.empty((len(user_ids), len(self._room.user)), np.float32)
        for place, bits in enumerate(hashes_of(texts_of(user_ids))):
            row = find(self._user_slots, bits)
            held = self._users.item.shape[1]
            until = min(int(self._users.had[row]), held) if row >= 0 else 0
            tables = items, self.hashes, self._users, row, until, self.trained, self._rules.horizon_ms
            user_vector(*tables, self.settings.min_readers, self._room)
            found[place] = self._room.user
        return found

    def published_inputs(self, rows: Ints, items: Items | None = None) -> Floats:
        """Return the inputs (R, D) of rows that `shows_inputs` names, as `published`."""
        items, trained = self._items if items is None else items, self.trained
        inputs, own = items.inputs[rows], items.trained[rows]
        new = (own < 0) & (items.readers[rows] < self.settings.min_readers)
        inputs[new], _ = start_vectors(trained.starts, items.category[rows[new]], self.hashes[rows[new]])
        return inputs

    def shows_inputs(self, rows: Ints, items: Items | None = None) -> Flags:
        """Return of which rows (R,) inputs are published: of new items, and of those with readers enough.

        Others enter as the model has them. -1, and what was another item in an earlier snapshot: of none.
        """
        now = self._items
        items = now if items is None else with_rows(items, len(now.category))
        is_same = (rows >= 0) & (items.generation[rows] == now.generation[rows])
        found: Flags = is_same & (
            (items.trained[rows] < 0) | (items.readers[rows] >= self.settings.min_readers)
        )
        return found

    def scores(self, user: Floats, items: Items | None = None) -> Floats:
        """Return each row's score (n,) for a user's vector (D,), unrotated, popularity aside, as `published`.

        Minus infinity for a row that is free.
        """
        found = np.empty(len(self.item_ids), np.float32)
        items = self._items if items is None else with_rows(items, len(self._items.category))
        fewest = self.settings.min_readers
        score_shown(items, self.hashes, self.trained, user, fewest, self._room, found)
        found[(items.generation != self._items.generation)[: len(found)]] = -np.inf
        return found

    def health(self) -> Health:
        """Return whether what is learned is fit to be shown, and why not."""
        count = len(self.item_ids)
        return health_of(
            self.outputs[used(self._item_slots)[:count]], self.trained.outputs, self._stream.losses
        )


def popularity_of(counts: Doubles, counted_ms: Ints, half_lives_ms: tuple[int, int], now_ms: int) -> Doubles:
    """Return log(1 + count) (R, 2) at a time, of counts (R, 2) that are decayed up to other times (R,)."""
    age_ms = np.maximum(now_ms - counted_ms, 0)[:, None].astype(np.float64)
    return np.log1p(counts * np.exp2(-age_ms / np.array(half_lives_ms, np.float64)))


def _rules(artifact: Artifact, live: LiveItemsSettings, settings: LearnerSettings) -> Rules:
    return Rules(
        half_lives_ms=live.half_lives_ms,
        rate=live.rate,
        pull=live.pull,
        learned_until_ms=live.learned_until_ms,
        max_items=len(artifact.item_ids) + settings.max_new_items,
        max_users=settings.max_users,
        item_ttl_ms=settings.item_ttl_ms,
        start_squares=NEW_SQUARES,
        horizon_ms=artifact.settings.window.horizon_ms,
        seed=settings.seed,
    )


def _room(dimension: int, held: int, negatives: int) -> Room:
    return Room(
        user=np.zeros(dimension, np.float32),
        short=np.zeros(dimension, np.float32),
        gradient=np.zeros(dimension, np.float32),
        start_in=np.zeros(dimension, np.float32),
        start_out=np.zeros(dimension, np.float32),
        weight=np.zeros(held, np.float32),
        rows=np.zeros(held, np.int64),
        drawn=np.zeros(negatives + 1, np.int64),
        scores=np.zeros(negatives + 1, np.float32),
        has_long=np.zeros(1, np.bool_),
    )


def _text(texts: Texts, place: int) -> str:
    return texts.text[texts.starts[place] : texts.starts[place + 1]].tobytes().decode()


def _to_text(name: str, values: Sequence[str]) -> dict[str, np.ndarray[Any, Any]]:
    texts = texts_of(values)
    return {f"{name}/text": texts.text, f"{name}/starts": texts.starts}


def _from_text(state: State, name: str) -> list[str]:
    texts = Texts(state[f"{name}/text"], state[f"{name}/starts"])
    return [_text(texts, place) for place in range(len(texts))]
