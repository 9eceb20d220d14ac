"""Histories: windows as columns of vocabulary indices, which every model reads; needs no torch."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.arrays import Bytes, Ints
from models.events import Behaviour
from models.ids.vocabulary import Vocabulary
from models.ids.vocabulary_file import UNKNOWN
from models.windows.columns import read_windows
from models.windows.live_inputs import LiveEvents, LiveInputs


@dataclass(frozen=True, slots=True)
class Histories:
    """The events of B users as vocabulary indices, users one after the other, each oldest first.

    item, category (E,) indices, int64 or smaller integers; behaviour (E,) uint8; time_ms (E,) int64; starts
    (B+1,) int64: the events of user u are starts[u] to starts[u+1]; live: which events read what their items
    have become since the model was trained, by an encoder that can (`UserEncoder.reads_live`); None: none.
    """

    item: Ints
    category: Ints
    behaviour: Bytes
    time_ms: Ints
    starts: Ints
    live: LiveEvents | None = None

    def __len__(self) -> int:
        return len(self.starts) - 1

    def newest_ms(self) -> Ints:
        """Return the time of each user's newest event (B,), 0 for a user without any."""
        times_ms = np.append(self.time_ms, 0)
        return np.where(np.diff(self.starts) > 0, times_ms[self.starts[1:] - 1], 0)

    def part(self, users: slice) -> "Histories":
        """Return the histories of users who stand side by side, without a copy."""
        first, last = self.starts[users.start], self.starts[users.stop]
        return Histories(
            self.item[first:last],
            self.category[first:last],
            self.behaviour[first:last],
            self.time_ms[first:last],
            self.starts[users.start : users.stop + 1] - first,
            self.live and self.live.take(slice(first, last)),
        )

    def take(self, users: Ints) -> "Histories":
        """Return the histories of these users (indices), in this order."""
        counts = np.diff(self.starts)[users]
        starts = np.concatenate(([0], np.cumsum(counts)))
        rows = np.repeat(self.starts[users] - starts[:-1], counts) + np.arange(starts[-1])
        return self.select(rows, starts)

    def select(self, rows: Ints, starts: Ints) -> "Histories":
        """Return these events (numbers) as the histories that begin at starts."""
        return Histories(
            self.item[rows],
            self.category[rows],
            self.behaviour[rows],
            self.time_ms[rows],
            starts,
            self.live and self.live.take(rows),
        )


def histories_of_windows(
    values: Sequence[bytes], vocabulary: Vocabulary, live: LiveInputs | None = None
) -> Histories:
    """Return the histories that live windows hold, given as their binary values, whose items read `live`.

    Raises WindowError where a value is not a window.
    """
    return Histories(*read_windows(values, vocabulary, live))


def histories_of_cold_start(categories: Sequence[str], vocabulary: Vocabulary) -> Histories:
    """Return what is known of cold-start users, of each the category of which they look at something.

    That is one view of an item that training never saw, which enters the model as its category alone; nothing
    where the category is empty.
    """
    has_view = np.array([category != "" for category in categories], np.bool_)
    category = vocabulary.category_indices(categories)[has_view]
    views = len(category)
    return Histories(
        item=np.full(views, UNKNOWN, np.int64),
        category=category,
        behaviour=np.full(views, Behaviour.VIEW, np.uint8),
        time_ms=np.zeros(views, np.int64),
        starts=np.concatenate(([0], np.cumsum(has_view))),
    )
