"""Users' windows -> the rows of a behaviour log, some megabytes of windows at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash

from models.arrays import Bytes, Ints
from models.windows.columns import PlacedEvents, read_events
from models.windows.window import WindowError


@dataclass(frozen=True, slots=True)
class WindowRows:
    """The E events of B windows, one window after the other, each oldest first.

    counts (B,) events of each window; behaviour, time_ms (E,); item, category: E texts, as Arrow has
    dictionaries; digest: the sum of 64 bits of each window's user and events.
    """

    counts: Ints
    behaviour: Bytes
    time_ms: Ints
    item: Any
    category: Any
    digest: int


def rows_of(keys: Sequence[bytes], values: Sequence[bytes]) -> WindowRows:
    """Return the events of some windows, which are of the users `keys`.

    Raises WindowError where a value is not a window of this format.
    """
    events = read_events(values)
    _refuse_damaged(events, values)
    item_firsts, item_ends, category_firsts, category_ends = events.id_places
    return WindowRows(
        counts=np.diff(events.starts),
        behaviour=events.behaviour,
        time_ms=events.time_ms,
        item=_texts(events.text, item_firsts, item_ends),
        category=_texts(events.text, category_firsts, category_ends),
        digest=sum(_digests(keys, events)),
    )


def _refuse_damaged(events: PlacedEvents, values: Sequence[bytes]) -> None:
    """Raise WindowError where the lengths of a window's ids do not add up."""
    has_events = np.diff(events.starts) > 0
    first, last = events.starts[:-1][has_events], events.starts[1:][has_events] - 1
    ends = np.cumsum(np.fromiter(map(len, values), np.int64, len(values)))[has_events]
    _, item_ends, category_firsts, category_ends = events.id_places
    if (item_ends[last] != category_firsts[first]).any() or (category_ends[last] > ends).any():
        raise WindowError("a stored window is damaged: its ids do not add up")


def _texts(text: Bytes, firsts: Ints, ends: Ints) -> Any:
    """Return the texts that stand from one byte to another each, as a dictionary array of Arrow."""
    lengths = ends - firsts
    starts = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=starts[1:])
    content = text[np.arange(starts[-1]) + np.repeat(firsts - starts[:-1], lengths)]
    texts = pa.LargeStringArray.from_buffers(len(lengths), pa.py_buffer(starts), pa.py_buffer(content))
    try:
        texts.validate(full=True)
    except pa.ArrowInvalid as error:
        raise WindowError(f"a stored window is damaged: an id is no UTF-8 text ({error})") from error
    return texts.dictionary_encode()


def _digests(keys: Sequence[bytes], events: PlacedEvents) -> list[int]:
    """Return 64 bits of each window's user and events."""
    item_firsts, item_ends, category_firsts, category_ends = events.id_places
    lengths = np.stack((item_ends - item_firsts, category_ends - category_firsts), axis=1)  # (E, 2)
    digests = []
    for key, first, end in zip(keys, events.starts[:-1].tolist(), events.starts[1:].tolist(), strict=True):
        parts: list[Ints | Bytes] = []
        if end > first:
            ids = events.text[item_firsts[first] : category_ends[end - 1]]  # all items, then all categories
            parts = [events.time_ms[first:end], events.behaviour[first:end], lengths[first:end], ids]
        user = b"%d:%d:%b" % (end - first, len(key), key)
        digests.append(xxhash.xxh3_64_intdigest(b"".join([user, *(part.tobytes() for part in parts)])))
    return digests
