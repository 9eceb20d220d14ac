"""The ids of items by their rows, the one part of a learner that is text; and of those that are gone."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from models.arrays import Ints
from models.ids.texts import Texts, texts_of
from models.windows.fold import EventColumns

Arrays = Mapping[str, np.ndarray[Any, Any]]


class ItemNames:
    """`ids[row]` and `categories[row]`, both "" for a row that is free."""

    def __init__(self, ids: Sequence[str], categories: Sequence[str]) -> None:
        self.ids, self.categories = list(ids), list(categories)
        #: Ids of items that were published, maybe, and are gone; for the publisher to take and clear. Who
        #: resumes publishes everything anew, so they are no part of the state.
        self.removed: list[str] = []

    @classmethod
    def from_arrays(cls, state: Arrays) -> "ItemNames":
        """Return the names of `to_arrays`."""
        return cls(*(_from_text(state, each) for each in ("item_ids", "categories")))

    def to_arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return all names as arrays."""
        return {**_to_text("item_ids", self.ids), **_to_text("categories", self.categories)}

    def rename(self, events: EventColumns, new_rows: Ints, freed: Ints, used: int) -> None:
        """Name the rows that were given away and taken, in the order in which they were.

        new_rows (E,): the row that an event's item was given, -1 for none; freed (n, 2): event, and the row
        that it freed; used: how many rows were ever used.
        """
        missing = used - len(self.ids)
        self.ids += [""] * missing
        self.categories += [""] * missing
        at = np.flatnonzero(new_rows >= 0)
        taken = [(event, 1, row) for event, row in zip(at.tolist(), new_rows[at].tolist(), strict=True)]
        for event, is_new, row in sorted([*((event, 0, row) for event, row in freed.tolist()), *taken]):
            if not is_new:
                self.clear(row)
            else:
                self.ids[row] = _text(events.item, event)
                self.categories[row] = _text(events.category, event)

    def clear(self, row: int) -> None:
        """Note that the item of a row is gone."""
        self.removed.append(self.ids[row])
        self.ids[row] = self.categories[row] = ""


def _text(texts: Texts, place: int) -> str:
    return texts.text[texts.starts[place] : texts.starts[place + 1]].tobytes().decode()


def _to_text(name: str, values: Sequence[str]) -> dict[str, np.ndarray[Any, Any]]:
    texts = texts_of(values)
    return {f"{name}/text": texts.text, f"{name}/starts": texts.starts}


def _from_text(state: Arrays, name: str) -> list[str]:
    texts = Texts(state[f"{name}/text"], state[f"{name}/starts"])
    return [_text(texts, place) for place in range(len(texts))]
