"""A batch of records -> columns of readable events, who they are of, and what is wrong with the rest."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.arrays import Flags, Ints
from models.events import BEHAVIOURS, LIKELY_MS, MAX_AHEAD_MS, SKIPPED_EVENT, Event
from models.ids.hashing import hashes_of_texts
from models.ids.texts import Texts, texts_of
from models.payloads import Payloads, payloads_of
from models.windows.fold import EventColumns
from models.windows.window import MAX_ID_BYTES
from stream.events.columns import DecodedEvents, Decoder, columns_of_events, reason_refused
from stream.kafka.records import Record as Record
from stream.kafka.records import Records, records_of

#: Header with the producer's wall-clock time, epoch ms in ASCII digits.
SENT_AT_HEADER = "sent_at"

#: More digits than these are no time.
MAX_TIME_DIGITS = 15
#: Send times read of one batch, about.
SEND_TIMES_PER_BATCH = 256

#: Header of a record that came back from the dead letters (stream/dead_letters/).
REDRIVEN_HEADER = "twintide-redriven"

#: A record without a value that has this header asks for its key's user to be forgotten (stream/forget.py).
FORGET_HEADER = "twintide-forget"
#: The same of an item, whose id is the key: the item learner's affair, and nothing to a user's window.
FORGET_ITEM_HEADER = "twintide-forget-item"


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record that goes to the dead-letter topic."""

    record: Record
    reason: str


@dataclass(frozen=True, slots=True)
class Incoming:
    """What a batch brings.

    user_ids: the users of `events`, by their first event; sent_at_ms: send times (epoch ms) by the user's
    number, of some events; forgets: users to forget, and the offset that said so.
    """

    #: Offset behind all that was read, and the last record's timestamp (epoch ms), 0 where there is none.
    position: int
    timestamp_ms: int
    user_ids: list[str]
    events: EventColumns
    sent_at_ms: dict[int, list[int]]
    rejected: list[Rejected]
    forgets: dict[str, int]
    #: Events that the format says to skip.
    skipped: int = 0
    #: Records of users whose windows have moved away with them.
    moved: int = 0
    #: When the records were there and when they were read (epoch s).
    fetched_s: float = 0.0
    read_s: float = 0.0


def read_records(
    fetched: Records | Sequence[Record],
    decoder: Decoder,
    source: str,
    has_moved: Callable[[bytes | None, int], bool] | None = None,
) -> Incoming:
    """Read fetched records, which stand in offset order; `source` names their topic and partition.

    An event without an id is known by its place in the source. Those that `has_moved`, by key and offset, are
    left out.
    """
    found = fetched if isinstance(fetched, Records) else records_of(fetched)
    position, all_fetched = found.position, len(found)
    timestamp_ms = found.each[-1].timestamp()[1] if all_fetched else 0
    if has_moved:
        found = _without(found, has_moved)
    fetched_s = time.time()
    latest_ms = int(fetched_s * 1000) + MAX_AHEAD_MS
    rejected: list[Rejected] = []
    forgets: dict[str, int] = {}
    columns, places = decoder.columns(found.values), None
    if columns is not None:
        places = columns.places
    skipped = 0 if places is None else len(found) - len(places)
    if columns is None or not _are_readable(columns, found.keys, latest_ms):
        events = decoder.events(found.values)
        skipped = sum(event is SKIPPED_EVENT for event in events)
        kept = _readable(found, events, latest_ms, rejected, forgets)
        places, values = np.array(kept, np.int64), [*found.values]
        columns = decoder.columns([values[place] for place in kept])
        if columns is None:
            columns = columns_of_events([event for place in kept if (event := events[place])])
    offsets = found.offsets if places is None else found.offsets[places]
    readable = EventColumns(
        user=columns.user,
        offset=offsets,
        time_ms=columns.time_ms,
        behaviour=columns.behaviour.astype(np.uint8),
        event_hash=_hashes(columns.event_ids, offsets, source),
        item=columns.item,
        category=columns.category,
    )
    sent_at_ms = _send_times(found, places, readable)
    about = position, timestamp_ms, columns.user_ids, readable, sent_at_ms, rejected, forgets, skipped
    return Incoming(*about, all_fetched - len(found), fetched_s, time.time())


def _without(records: Records, has_moved: Callable[[bytes | None, int], bool]) -> Records:
    """Return the records that have not moved."""
    known = zip(records.keys, records.offsets.tolist(), strict=True)
    kept = [place for place, (key, offset) in enumerate(known) if not has_moved(key, offset)]
    return records if len(kept) == len(records) else records.at(np.array(kept, np.int64))


def _are_readable(columns: DecodedEvents, keys: Payloads, latest_ms: int) -> bool:
    """Return whether `complaint` would have nothing to say of any of the events; keys: of all records."""
    if columns.places is not None:
        of_all = [*keys]
        keys = payloads_of([of_all[place] for place in columns.places.tolist()])
    ids = columns.users, columns.item, columns.category
    return bool(
        not keys.is_null.any()
        and np.array_equal(columns.users.text, keys.text)
        and np.array_equal(columns.users.starts, keys.starts)
        and are_sound(*ids, columns.behaviour, columns.time_ms, latest_ms).all()
    )


def are_sound(
    users: Texts, items: Texts, categories: Texts, behaviours: Ints, times_ms: Ints, latest_ms: int
) -> Flags:
    """Return of which events (E,) `complaint` would have nothing to say, whatever their keys are."""
    within = _are_within(users, 1) & _are_within(items, 1) & _are_within(categories, 0)
    are_seconds = (times_ms >= LIKELY_MS[0] // 1000) & (times_ms <= LIKELY_MS[1] // 1000)
    are_times = (times_ms > 0) & (times_ms <= latest_ms) & ~are_seconds
    return within & are_times & np.isin(behaviours, list(BEHAVIOURS))


def wrong_time(time_ms: int, latest_ms: int) -> str:
    """Return why a time is none: the unit that it is in, if it is not ms, or `time`; empty where it is one.

    A number of seconds would pass for a moment of January 1970, and no session would ever end.
    """
    if LIKELY_MS[0] // 1000 <= time_ms <= LIKELY_MS[1] // 1000:
        return "seconds"
    if 0 < time_ms <= latest_ms:
        return ""
    units = {"microseconds": 1_000, "nanoseconds": 1_000_000}
    found = (unit for unit, each in units.items() if LIKELY_MS[0] <= time_ms / each <= LIKELY_MS[1])
    return next(found, "time")


def _are_within(ids: Texts, at_least: int) -> Flags:
    lengths = ids.lengths()
    return (lengths >= at_least) & (lengths <= MAX_ID_BYTES)


def _hashes(event_ids: Texts | Sequence[str | None], offsets: Ints, source: str) -> npt.NDArray[np.int64]:
    """Return what `event_hash` says of each id."""
    if isinstance(event_ids, Texts):
        return hashes_of_texts(event_ids).view(np.int64)
    if None in event_ids:
        named = zip(event_ids, offsets.tolist(), strict=True)
        event_ids = [f"{source}/{offset}" if each is None else each for each, offset in named]
    return hashes_of_texts(texts_of(event_ids)).view(np.int64)  # type: ignore[arg-type]


def _readable(
    records: Records,
    events: Sequence[Event | None],
    latest_ms: int,
    rejected: list[Rejected],
    forgets: dict[str, int],
) -> list[int]:
    """Return the places of the readable events; what else there is goes to `rejected` and `forgets`.

    What a forgotten user did before is not among them: it need not be folded.
    """
    kept: dict[int, str] = {}
    for place, (key, event) in enumerate(zip(records.keys, events, strict=True)):
        if event is SKIPPED_EVENT:
            continue
        if reason := complaint(event, key, latest_ms):
            record = records.each[place]
            if user_id := user_to_forget(record):
                forgets[user_id] = record.offset()
                kept = {before: of_user for before, of_user in kept.items() if of_user != user_id}
            elif not item_to_forget(record):
                rejected.append(Rejected(record, reason))
        else:
            kept[place] = (key or b"").decode()
    return list(kept)


def complaint(event: Event | None, key: bytes | None, latest_ms: int) -> str:
    """Return why an event makes no sense, one of a small set of reasons; empty where it makes sense."""
    if event is None:
        return "unreadable"
    try:
        ids = (event.user_id, event.item_id, event.category, event.event_id)
        user_id, item_id, category, _ = (str(each).encode() for each in ids)
    except UnicodeEncodeError:
        return "unreadable"
    if not user_id:
        return reason_refused(event) or "no_user"
    if not item_id:
        return "no_item"
    if max(len(user_id), len(item_id), len(category)) > MAX_ID_BYTES:
        return "long_id"
    if event.behavior_type not in BEHAVIOURS:
        return "behaviour"
    if reason := wrong_time(event.time, latest_ms):
        return reason
    if key != user_id:
        # Another key may mean another partition, whose worker would keep a second window of this user.
        return "key"
    return ""


def user_to_forget(record: Record) -> str:
    """Return which user a control record says to forget; empty where it is no such record."""
    return _to_forget(record, FORGET_HEADER)


def item_to_forget(record: Record) -> str:
    """Return which item a control record says to forget; empty where it is no such record."""
    return _to_forget(record, FORGET_ITEM_HEADER)


def _to_forget(record: Record, header: str) -> str:
    key = record.key() or b""
    is_control = record.value() is None and any(name == header for name, _ in record.headers() or ())
    # No id is longer, and Kafka might not take the tombstone.
    return key.decode(errors="replace") if is_control and len(key) <= MAX_ID_BYTES else ""


def _send_times(records: Records, at: Ints | None, events: EventColumns) -> dict[int, list[int]]:
    """Return some send times by the number of their user; at (E,): which records events are, None for all.

    Finding one takes a while, so of large batches some must do.
    """
    sent: dict[int, list[int]] = {}
    some = np.arange(0, len(events), 1 + len(events) // SEND_TIMES_PER_BATCH)
    places = some if at is None else at[some]
    found = (records.last_headers(name, places) for name in (SENT_AT_HEADER, REDRIVEN_HEADER))
    for user, *values in zip(events.user[some].tolist(), *found, strict=True):
        if at_ms := _sent_at_ms(*values):
            sent.setdefault(user, []).append(at_ms)
    return sent


def sent_at_ms(headers: Iterable[tuple[str, bytes]]) -> int:
    """Return the producer's send time, or 0 where the record has none, or waited as a dead letter since."""
    found = dict(headers)
    return _sent_at_ms(found.get(SENT_AT_HEADER), found.get(REDRIVEN_HEADER))


def _sent_at_ms(sent_at: bytes | None, redriven: bytes | None) -> int:
    if not sent_at or not sent_at.isdigit() or len(sent_at) > MAX_TIME_DIGITS or redriven is not None:
        return 0
    return int(sent_at)
