"""Events as columns: what every decoder makes of records, whether they make sense or not."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from models.arrays import Bytes, Flags, Ints
from models.events import Event
from models.ids.texts import Texts, texts_of

#: Stand for values that cannot be read, by why: they have not the frame of a registry; it has no such schema,
#: or one that is of no use; they are not as their schema says. Known by identity, as SKIPPED_EVENT is.
REFUSED = {reason: Event("", "", 0, 0) for reason in ("frame", "schema", "payload")}


@dataclass(frozen=True, slots=True)
class DecodedEvents:
    """E events as they were sent: whether they make sense is not checked yet (incoming.py does).

    user (E,) the event's place in `user_ids`, which stand in the order of their first events; users, item,
    category: E texts each; behaviour, time_ms (E,) int64; event_ids: texts where every event has one, else a
    list, with None where there is none; places (E,) which of the values they are, None where they are all:
    the others are to be skipped.
    """

    user_ids: list[str]
    user: Ints
    users: Texts
    item: Texts
    category: Texts
    behaviour: Ints
    time_ms: Ints
    event_ids: Texts | list[str | None]
    places: Ints | None = None


#: What of an event `WholeEvents` have as text.
USER, ITEM, CATEGORY, GEOHASH, EVENT_ID = range(5)


@dataclass(frozen=True, slots=True)
class WholeEvents:
    """E events with all that they have, and as what: whether they make sense is not checked yet.

    texts: five times E, by the numbers above; kinds (E, 5) uint8: whether it is text, a number, null or
    missing (as plain_json.py has them); behaviour, time_ms (E,) int64; is_odd (E,): only `Decoder.events` can
    say what that event is; places (E,) which of the values they are, None where they are all: the others are
    to be skipped.
    """

    texts: Sequence[Texts]
    kinds: Bytes
    behaviour: Ints
    time_ms: Ints
    is_odd: Flags
    places: Ints | None = None

    def __len__(self) -> int:
        return len(self.behaviour)


class Decoder(Protocol):
    """Turns the values of records into events."""

    def columns(self, values: Sequence[bytes | None]) -> DecodedEvents | None:
        """Return all of them as columns, None where that cannot be: then `events` says what each is."""

    def whole(self, values: Sequence[bytes | None]) -> WholeEvents | None:
        """Return all of them with all that they have, None where that cannot be."""

    def events(self, values: Sequence[bytes | None]) -> list[Event | None]:
        """Return each event, SKIPPED_EVENT for what is to be skipped, None for what cannot be read.

        One of REFUSED instead of None, where more is known.
        """


def reason_refused(event: Event) -> str:
    """Return why a value was refused that an event stands for, empty where it is an event."""
    return next((reason for reason, each in REFUSED.items() if each is event), "")


def columns_of_events(events: Sequence[Event]) -> DecodedEvents:
    """Return the columns of events that make sense."""
    user_ids = [str(event.user_id) for event in events]
    numbers = dict(zip(dict.fromkeys(user_ids), count(), strict=False))
    event_ids = [event.event_id for event in events]
    return DecodedEvents(
        user_ids=list(numbers),
        user=np.array([numbers[user_id] for user_id in user_ids], np.int64),
        users=texts_of(user_ids),
        item=texts_of([str(event.item_id) for event in events]),
        category=texts_of([event.category for event in events]),
        behaviour=np.array([event.behavior_type for event in events], np.int64),
        time_ms=np.array([event.time for event in events], np.int64),
        event_ids=[None if event_id is None else str(event_id) for event_id in event_ids],
    )


def numbers_of_column(column: Any, kind: type[np.signedinteger[Any]]) -> npt.NDArray[Any]:
    """Return the numbers of an Arrow column without nulls, which share its memory.

    The column's own `to_numpy` imports pandas: a quarter of a second, and 50 MB.
    """
    _, content = column.buffers()
    return np.frombuffer(content, kind)[column.offset : column.offset + len(column)]


def column_of_numbers(numbers: Ints) -> Any:
    """Return numbers as an Arrow column, which shares their memory; `pa.array` imports pandas, too."""
    content = pa.py_buffer(np.ascontiguousarray(numbers))
    return pa.Int64Array.from_buffers(pa.int64(), len(numbers), [None, content])


def column_of_texts(texts: Texts) -> Any:
    """Return texts as an Arrow column, which shares their memory."""
    offsets = pa.py_buffer(texts.starts.astype(np.int32))
    return pa.StringArray.from_buffers(len(texts), offsets, pa.py_buffer(texts.text))


def texts_of_column(column: Any) -> Texts:
    """Return the texts of an Arrow column without nulls, which share its memory."""
    if not len(column):
        return texts_of(())
    _, offsets, content = column.buffers()
    starts = np.frombuffer(offsets, np.int32)[column.offset : column.offset + len(column) + 1].astype(
        np.int64
    )
    text = np.frombuffer(content if content is not None else b"", np.uint8)
    text.setflags(write=False)  # as all texts: the fold is compiled for that
    return Texts(text[starts[0] : starts[-1]], starts - starts[0])
