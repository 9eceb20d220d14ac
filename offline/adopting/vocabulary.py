"""The vocabulary file of an adopted encoder: by which numbers its library knows items and categories."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta

from models.adopted.indices import LEFT_OUT, Indices
from models.errors import DataError
from models.events import Behaviour
from models.ids.vocabulary import Vocabulary

#: A number by which an encoder knows something.
Index = Annotated[int, Meta(ge=0)]


class LibraryVocabulary(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the file holds, as JSON.

    items, categories: raw id -> the encoder's index. behaviours: view, favourite, cart, buy -> index; events
    of those that are not named are left out; without it, they are 1 to 4. padding: the index where there is
    no event. unknown_item: the index of items that are not named; without it their events are left out.
    unknown_category: the index of categories that are not named; without it, padding.
    """

    items: dict[str, Index]
    categories: dict[str, Index] = {}
    behaviours: dict[str, Index] | None = None
    padding: Index = 0
    unknown_item: Index | None = None
    unknown_category: Index | None = None

    def indices(self, vocabulary: Vocabulary) -> Indices:
        """Return the encoder's index of each of ours."""
        unknown_item = LEFT_OUT if self.unknown_item is None else self.unknown_item
        unknown = self.padding if self.unknown_category is None else self.unknown_category
        items = (self.items[each] for each in vocabulary.item_ids)
        categories = (self.categories.get(each, unknown) for each in vocabulary.category_ids)
        return Indices(
            items=_array([self.padding, unknown_item], items),
            categories=_array([self.padding, unknown], categories),
            behaviours=_behaviours(self.behaviours),
        )


def read_vocabulary(file: Path) -> LibraryVocabulary:
    """Return what a file holds. Raises DataError where it cannot be used."""
    try:
        found = msgspec.json.decode(file.read_bytes(), type=LibraryVocabulary)
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror})") from error
    except msgspec.MsgspecError as error:
        raise DataError(f'{file}: {error}; it must be JSON like {{"items": {{"raw id": 1}}}}') from error
    if not found.items:
        raise DataError(f"{file} names no item")
    padded = next((each for each, index in found.items.items() if index == found.padding), None)
    if padded is not None:
        raise DataError(f"{file}: item {padded!r} has the index of padding, {found.padding}")
    unnamed = set(found.behaviours or ()) - {each.name.lower() for each in Behaviour}
    if unnamed:
        names = ", ".join(each.name.lower() for each in Behaviour)
        raise DataError(f"{file}: {min(unnamed)!r} is no behaviour; there are {names}")
    return found


def vocabulary_of(items: Mapping[str, str], library: LibraryVocabulary, files: str) -> Vocabulary:
    """Return our vocabulary of items (id -> category, empty for none), in their order.

    Raises DataError where these and the library's are not the same items; `files` says which files they are.
    """
    for one, other, what in (
        (library.items.keys(), items.keys(), "the vocabulary's have no vector"),
        (items.keys(), library.items.keys(), "those with a vector are not in the vocabulary"),
    ):
        if missing := one - other:
            raise DataError(f"{files}: {len(missing):,} of {what}, such as {min(missing)!r}")
    named = {category for category in items.values() if category}
    category_ids = sorted(named | library.categories.keys())
    place = Vocabulary([], [], category_ids)
    categories = place.category_indices(list(items.values()))
    return Vocabulary(list(items), categories.tolist(), category_ids)


def _behaviours(named: Mapping[str, int] | None) -> "np.typing.NDArray[np.int64]":
    if named is None:
        return np.arange(len(Behaviour) + 1)
    return _array([0], (named.get(each.name.lower(), LEFT_OUT) for each in Behaviour))


def _array(first: list[int], others: Iterable[int]) -> "np.typing.NDArray[np.int64]":
    return np.array([*first, *others], np.int64)
