"""The learner of items: a stream of events in, item vectors and popularity out, from a model's as trained.

Pure: no Kafka, no Redis, no clock; the same events in the same order give the same bits, however they are cut
into batches, and also when the learner was written down and resumed on the way.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from models.arrays import Flags, Floats, Ints, Words
from models.artifact.artifact import Artifact
from models.artifact.live_items import LiveItemsSettings
from models.ids.hashes import hashes_of
from models.ids.texts import texts_of
from models.ids.vocabulary import indices_of_places
from models.items.health import Health, health_of, longest
from models.items.kernels import FREED_PER_EVENT, learn_events
from models.items.names import ItemNames
from models.items.pairs import Pairs, make_pairs, members, remember_all
from models.items.rows import (
    DUPLICATE,
    KNOWN_SQUARES,
    LEARNED,
    LONG_AGO_MS,
    NEWEST_MS,
    REPEATED,
    STEP,
    Batch,
    Items,
)
from models.items.settings import LearnerSettings, room_of, rules_of
from models.items.shown import Shown
from models.items.slots import FREE, USED, find, find_all, forget, make_slots, release
from models.items.tables import (
    Tables,
    fill_known,
    from_arrays,
    make_items,
    make_stream,
    make_users,
    stream_from_arrays,
    to_arrays,
    used,
)
from models.items.trained import Trained, trained_of
from models.windows.fold import EventColumns

State = Mapping[str, np.ndarray[Any, Any]]


class ItemLearner:
    """All items of a model and of its stream, learning on event by event.

    Rows: the first I are the model's items, in its order; an item keeps its row until it is gone, and the row
    may then be another's.
    """

    def __init__(self, artifact: Artifact, live: LiveItemsSettings, settings: LearnerSettings) -> None:
        """Not to be called: `start` and `resume` are."""
        self.artifact, self.live, self.settings = artifact, live, settings
        self.trained: Trained = trained_of(artifact, live.own)
        self._longest_trained = longest(self.trained.outputs)
        vocabulary, features = artifact.vocabulary, artifact.settings.features
        categories = ["", "", *vocabulary.category_ids]
        self.names = ItemNames(
            vocabulary.item_ids, [categories[each] for each in vocabulary.item_categories.tolist()]
        )
        known, dimension = self.trained.inputs.shape
        self._tables = Tables(
            *(make_items(known + 1_024, dimension), make_slots(known + 1_024)),
            *(make_users(1_024, features.short_events), make_slots(1_024)),
        )
        self._pairs: Pairs = make_pairs(settings.remembered_pairs)
        self._stream = make_stream(settings.recent_events)
        self._rules = rules_of(artifact, live, settings)
        self._room = room_of(dimension, features.short_events, settings.negatives)

    @classmethod
    def start(
        cls, artifact: Artifact, live: LiveItemsSettings, settings: LearnerSettings | None = None
    ) -> "ItemLearner":
        """Return a learner that has seen no event. ArtifactError where the model scores by cosine."""
        learner = cls(artifact, live, settings or LearnerSettings())
        hashes, tables = hashes_of(texts_of(learner.item_ids)), learner._tables
        known = tables.items, tables.item_slots, learner.trained
        fill_known(*known, artifact.vocabulary.item_categories, hashes, KNOWN_SQUARES)
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
        learner._tables = Tables(*from_arrays("items", items, state), *from_arrays("users", users, state))
        learner._stream = stream_from_arrays(state)
        remember_all(learner._pairs, state["pairs/newer"], state["pairs/older"])
        learner.names = ItemNames.from_arrays(state)
        return learner

    def state(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return all that `resume` needs beside the artifact and the settings, as arrays of its own.

        items/..., users/... have a row for each row ever used; of the items', `items/revision` says which
        changed since an earlier state.
        """
        (newer, older), tables = members(self._pairs), self._tables
        return {
            **to_arrays("items", tables.items, tables.item_slots),
            **to_arrays("users", tables.users, tables.user_slots),
            **{f"stream/{name}": column.copy() for name, column in self._stream._asdict().items()},
            "pairs/newer": newer,
            "pairs/older": older,
            **self.names.to_arrays(),
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
        held, slots = self._tables, self._tables.item_slots
        tables = held.items, slots, held.users, held.user_slots, self._pairs, self._stream
        count = learn_events(batch, *tables, self.trained, self._rules, self._room, new_rows, freed)
        self.names.rename(events, new_rows, freed[:count], int(slots.ends[USED]))
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
        tables, rules = self._tables, self._rules
        self._tables.make_room(
            min(rules.max_items, int(tables.item_slots.ends[USED]) + len(np.unique(batch.item))),
            min(rules.max_users, int(tables.user_slots.ends[USED]) + len(batch.users)),
        )

    @property
    def shown(self) -> Shown:
        """What may be shown of the items."""
        rotation = self.artifact.towers.rotation
        return Shown(
            *(self._tables, self.names, self.trained, self._rules, self._room),
            min_readers=self.settings.min_readers,
            rotation=None if rotation is None else rotation.numpy(),
        )

    @property
    def item_ids(self) -> list[str]:
        """The item of each row (n,), "" for a row that is free."""
        return self.names.ids

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
        """What enters a user's vector (n, D), a view, unrotated and not fit to be shown: see `shown`."""
        return self._tables.items.inputs[: len(self.item_ids)]

    @property
    def outputs(self) -> Floats:
        """What scores (n, D), a view as `inputs`; the last coordinate is 0."""
        return self._tables.items.outputs[: len(self.item_ids)]

    @property
    def readers(self) -> Ints:
        """How many different users each row (n,) has had from the stream, 5 at most."""
        return self._tables.items.readers[: len(self.item_ids)]

    @property
    def revision(self) -> Ints:
        """The step at which each row (n,) was changed last, 0 for never."""
        return self._tables.items.revision[: len(self.item_ids)]

    @property
    def hashes(self) -> Words:
        """The 64 bits by which each row's item (n,) is known (`models.ids.hashes`)."""
        return self._tables.item_slots.hashes[: len(self.item_ids)]

    @property
    def is_there(self) -> Flags:
        """Whether each row (n,) has an item."""
        return used(self._tables.item_slots)[: len(self.item_ids)]

    @property
    def is_known(self) -> Flags:
        """Whether each row (n,) is an item of the model."""
        found: Flags = self._tables.items.trained[: len(self.item_ids)] >= 0
        return found

    def rows_of(self, hashes: Words) -> Ints:
        """Return the row of each item (n,) by its hash, -1 where there is none."""
        found = np.empty(len(hashes), np.int64)
        find_all(self._tables.item_slots, hashes, found)
        return found

    def changed_since(self, revision: int) -> Ints:
        """Return the rows that changed after that step, the last changed first.

        What may be shown of them, `shown` knows: below `min_readers` readers, nothing but their counts.
        """
        count = len(self.item_ids)
        rows = np.flatnonzero((self.revision > revision) & used(self._tables.item_slots)[:count])
        newest_first: Ints = rows[np.argsort(-self.revision[rows], kind="stable")]
        return newest_first

    def forget_item(self, item_id: str) -> bool:
        """Free an item's row, one of the model's too; return whether there was one. Seen again, it is new."""
        row = find(self._tables.item_slots, hashes_of(texts_of([item_id]))[0])
        if row >= 0:
            self._free(row)
        return row >= 0

    def _free(self, row: int) -> None:
        slots = self._tables.item_slots
        if self._tables.items.trained[row] < 0:
            release(slots, row)
        else:
            forget(slots, row)
            slots.older[row], slots.ends[FREE] = slots.ends[FREE], row
            self._tables.items.trained[row] = -1
        self._tables.items.generation[row] += 1
        self._tables.items.readers[row], self._tables.items.counted_ms[row] = 0, LONG_AGO_MS
        self.names.clear(row)

    def forget_user(self, user_id: str) -> bool:
        """Free a user's last events; return whether there were any.

        What they added to counts and vectors is a part of sums, and cannot be told apart: docs/items.md.
        """
        bits = hashes_of(texts_of([user_id]))[0]
        readers = self._tables.items.reader_hashes
        readers[readers == np.uint32(bits >> np.uint64(32))] = 0
        row = find(self._tables.user_slots, bits)
        if row >= 0:
            release(self._tables.user_slots, row)
        return row >= 0

    def snapshot(self) -> Items:
        """Return what all rows are now, as arrays of its own."""
        return Items._make(column.copy() for column in self._tables.items)

    def health(self) -> Health:
        """Return whether what is learned is fit to be shown, and why not."""
        return health_of(self.outputs, self.is_there, self._longest_trained, self._stream.losses)
