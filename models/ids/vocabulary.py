"""Raw item and category ids -> indices, and back; ids that training never saw are unknown, not errors."""

from collections.abc import Iterable, Sequence

import numpy as np

from models.arrays import Ints, Words
from models.ids.id_table import make_id_table
from models.ids.texts import texts_of
from models.ids.vocabulary_file import (
    FIRST_KNOWN,
    UNKNOWN,
    VocabularyFile,
    check_categories,
    read_vocabulary_file,
)


class Vocabulary:
    """The items and categories a model knows.

    item_ids[i] has index i + FIRST_KNOWN, and so has category_ids[i]; item_categories (I,) is the category
    index of each known item. An empty category means none was given and is unknown.
    """

    __slots__ = ("categories", "category_ids", "item_categories", "item_ids", "items")

    def __init__(self, item_ids: list[str], item_categories: Iterable[int], category_ids: list[str]) -> None:
        self.item_ids = item_ids
        self.category_ids = category_ids
        self.item_categories: Ints = np.fromiter(item_categories, np.int64)
        check_categories(len(item_ids), len(self.item_categories))
        self.items = make_id_table(item_ids)
        self.categories = make_id_table(category_ids)

    @property
    def item_count(self) -> int:
        """How many item indices there are, padding and unknown included."""
        return len(self.item_ids) + FIRST_KNOWN

    @property
    def category_count(self) -> int:
        """How many category indices there are, padding and unknown included."""
        return len(self.category_ids) + FIRST_KNOWN

    def item_indices(self, values: Sequence[str]) -> Ints:
        """Return the index of each raw item id, UNKNOWN where it is not known."""
        return indices_of_places(self.items.find(texts_of(values)))

    def category_indices(self, values: Sequence[str]) -> Ints:
        """Return the index of each raw category id, UNKNOWN where it is not known."""
        return indices_of_places(self.categories.find(texts_of(values)))

    def indices_at(self, words: Words, places: Ints) -> tuple[Ints, Ints]:
        """Return the item and the category index (E,) of E events, as `categories_of` has them.

        places (4, E): the bytes of the words where each event's item id begins and ends, and its category's.
        """
        item = self.items.find_at(words, *places[:2])
        category = self.item_categories[item] if self.item_ids else np.zeros_like(item)
        unknown = np.flatnonzero(item < 0)
        category[unknown] = indices_of_places(self.categories.find_at(words, *places[2:, unknown]))
        return indices_of_places(item), category

    def categories_of(self, items: Ints, event_categories: Ints) -> Ints:
        """Return each event's category index: the item's own where the item is known, else the event's.

        items, event_categories (E,) indices. So one item always enters the model the same way, and an item
        never seen in training backs off to the category that its event names.
        """
        known = items >= FIRST_KNOWN
        categories = event_categories.copy()
        categories[known] = self.item_categories[items[known] - FIRST_KNOWN]
        return categories

    def to_bytes(self) -> bytes:
        """Return the vocabulary as MessagePack."""
        return VocabularyFile(self.item_ids, self.item_categories.tolist(), self.category_ids).to_bytes()

    @classmethod
    def from_bytes(cls, value: bytes) -> "Vocabulary":
        """Return the vocabulary of `to_bytes`; ValueError where the bytes are not one."""
        stored = read_vocabulary_file(value)
        return cls(stored.item_ids, stored.item_categories, stored.category_ids)


def indices_of_places(places: Ints) -> Ints:
    """Return the indices of ids at these places of a vocabulary's table, UNKNOWN where that is -1."""
    return np.where(places < 0, UNKNOWN, places + FIRST_KNOWN)
