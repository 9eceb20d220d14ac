"""What the towers see of a user: sessions of events, and which events each tower reads; needs no torch."""

from dataclasses import dataclass, fields
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from models.arrays import Floats, Ints
from models.blocks import groups_of, smallest_integer
from models.errors import SettingsError
from models.sessions import DEFAULT_GAP_MS, starts_session
from models.windows.histories import Histories

#: Time gaps are bucketed by their base-2 logarithm in seconds; bucket 0 means "no event before".
GAP_BUCKETS = 26


@dataclass(frozen=True, slots=True)
class FeatureSettings:
    """How a window is divided between the two towers."""

    #: A new session starts after a pause longer than this (ms).
    gap_ms: int = DEFAULT_GAP_MS
    #: K, the most events that the short tower reads.
    short_events: int = 10
    #: N, the most events that the long tower reads.
    long_events: int = 100
    #: "session": short reads the current session, filled up with earlier events to K; "ratio": the last 10 %.
    split: Literal["session", "ratio"] = "session"

    def __post_init__(self) -> None:
        for name in ("gap_ms", "short_events", "long_events"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.split not in ("session", "ratio"):
            raise SettingsError(f"split is {self.split!r}; it must be session or ratio")


@dataclass(frozen=True, slots=True)
class EventFeatures:
    """What is derived from the times of E events, each seen as the newest of its user's history.

    gap (E,) bucket of the pause before the event; session (E,) number of its session within its user;
    boundary (E,) how many of its user's events the long tower may read when it is the newest; short_start
    (E,) the place of the first event that the short tower reads then. All int64, or smaller integers.
    """

    gap: Ints
    session: Ints
    boundary: Ints
    short_start: Ints


class Part(NamedTuple):
    """A stretch of each of B users' events: firsts, counts (B,), its first event and how many it has."""

    firsts: Ints
    counts: Ints

    def placed(self, values: Floats, events: int) -> Floats:
        """Return one user's values of this part (T,), or more, at their places among all events (events,)."""
        found = np.zeros(events, np.float32)
        first, count = int(self.firsts[0]), int(self.counts[0])
        found[first : first + count] = values[:count]
        return found

    def take(self, users: Ints) -> "Part":
        """Return the parts of these users (indices), in this order."""
        return Part(self.firsts[users], self.counts[users])


@dataclass(frozen=True, slots=True)
class TowerSpans:
    """Which events the two towers read of each user, and what is derived from the times of all events."""

    derived: EventFeatures
    long: Part
    short: Part


def event_features(histories: Histories, settings: FeatureSettings) -> EventFeatures:
    """Return what the towers need to know of each event beyond its item.

    The boundary between the towers moves only when a session starts, or every K events within one, so that
    the long vector can be kept in between.
    """
    user_starts, counts = histories.starts[:-1], np.diff(histories.starts)
    opens = starts_session(histories.time_ms, user_starts, settings.gap_ms)
    first = np.repeat(user_starts, counts)
    event = np.arange(len(first))
    number = np.cumsum(opens, dtype=np.int64)
    gap_s = np.diff(histories.time_ms, prepend=0) // 1000
    gap = np.log2(np.maximum(gap_s, 0) + 1.0).astype(np.int64) + 1
    gap[event == first] = 0
    session = number - number[first] if len(number) else number
    place = event - first
    if settings.split == "ratio":
        recent = np.minimum(-(-(place + 1) // 10), settings.short_events)
        boundary = short_start = place + 1 - recent
    else:
        session_start = np.maximum.accumulate(np.where(opens, event, 0)) - first
        boundary = place - (place - session_start) % settings.short_events
        short_start = np.maximum(place + 1 - settings.short_events, 0)
    return EventFeatures(np.minimum(gap, GAP_BUCKETS - 1), session, boundary, short_start)


def features_of_log(histories: Histories, settings: FeatureSettings) -> EventFeatures:
    """Return what `event_features` does, made some users at a time, of the smallest integers that hold it."""
    made: dict[str, npt.NDArray[Any]] = {
        each.name: np.zeros(len(histories.item), np.int8) for each in fields(EventFeatures)
    }
    for users in groups_of(histories.starts):
        begin, end = histories.starts[[users.start, users.stop]]
        found = event_features(histories.part(users), settings)
        for name in made:
            own = getattr(found, name)
            kind = smallest_integer(int(own.max(initial=0)))
            if kind.itemsize > made[name].itemsize:
                made[name] = made[name].astype(kind)
            made[name][begin:end] = own
    return EventFeatures(**made)


def tower_spans(histories: Histories, settings: FeatureSettings) -> TowerSpans:
    """Return which events the towers read of each user's whole history."""
    derived = event_features(histories, settings)
    starts, counts = histories.starts[:-1], np.diff(histories.starts)
    boundary, short_start = np.zeros_like(counts), np.zeros_like(counts)
    full = counts > 0
    last = histories.starts[1:][full] - 1
    boundary[full], short_start[full] = derived.boundary[last], derived.short_start[last]
    long_start = np.maximum(boundary - settings.long_events, 0)
    return TowerSpans(
        derived,
        long=Part(starts + long_start, boundary - long_start),
        short=Part(starts + short_start, counts - short_start),
    )
