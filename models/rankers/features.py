"""What numbers say of the moment, of a user and of what the user had of a candidate; needs no torch.

A function of the events before, the candidate and the time, the same offline and online. What only depends on
the user is made once per user.

Letters: B users, C candidates, E events, F features.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from models.arrays import Floats, Ints
from models.compiled import compiled
from models.ids.vocabulary_file import FIRST_KNOWN
from models.rankers.columns import within_horizon
from models.rankers.settings import RankerSettings
from models.windows.histories import Histories

#: Of the moment: the hour and the day as places on a circle, of the clock that `utc_offset_h` sets. Of the
#: user: log(1 + events) of each behaviour, of the last hour and the last day, log(1 + sessions a day), and
#: the nearness of the newest event.
USER_FEATURES = (
    *("hour_sin", "hour_cos", "weekday_sin", "weekday_cos"),
    *("views", "favourites", "carts", "buys", "last_hour", "last_day", "sessions_a_day", "newest"),
)
#: Of the user and the candidate's item, then of its category: log(1 + events) of each group of behaviours,
#: and the nearness of its newest. Of the category also its share of the events, and how many of these are
#: more than a view. All are 0 where there is nothing.
CANDIDATE_FEATURES = (
    *("item_views", "item_wishes", "item_buys", "item_view", "item_wish", "item_buy"),
    *("category_views", "category_wishes", "category_buys", "category_view", "category_wish", "category_buy"),
    *("category_share", "category_rate"),
)
#: So many of the candidate's are about its item; an unknown one has none of them.
ITEM_FEATURES = 6
#: The group of each behaviour: views; favourites and carts, which are wishes; buys.
_GROUPS = (-1, 0, 1, 1, 2)
_HOUR_MS, _DAY_MS = 3_600_000, 86_400_000
#: The weekday of 1 January 1970, Monday being 0.
_FIRST_WEEKDAY = 3
#: The logarithm of the seconds, and one, after which nothing is near any more: a year.
_LONGEST = math.log1p(365 * 86_400)


@dataclass(frozen=True, slots=True)
class FeatureRows:
    """user (B, F) float32 by USER_FEATURES; candidate (B, C, F) float32 by CANDIDATE_FEATURES."""

    user: Floats
    candidate: Floats

    def columns(self) -> Mapping[str, Floats]:
        """Return what a ranker's graph of candidates is fed, by name."""
        return {"user_features": self.user, "candidate_features": self.candidate}


class Spans(NamedTuple):
    """Events of B users, one after the other, each oldest first: (E,) int64 each, and starts (B+1,)."""

    item: Ints
    category: Ints
    behaviour: Ints
    time_ms: Ints
    starts: Ints


def feature_width(settings: RankerSettings) -> int:
    """Return how many features enter the layers that score."""
    return len(USER_FEATURES) + len(CANDIDATE_FEATURES) if settings.features else 0


def feature_rows(
    histories: Histories, now_ms: Ints, item: Ints, category: Ints, settings: RankerSettings
) -> FeatureRows:
    """Return the features of candidates (B, C) of B users at now_ms (B,)."""
    spans = histories.starts[:-1], histories.starts[1:]
    return features_of_spans(histories, *spans, now_ms, item, category, settings)


def features_of_spans(
    histories: Histories,
    firsts: Ints,
    ends: Ints,
    now_ms: Ints,
    item: Ints,
    category: Ints,
    settings: RankerSettings,
) -> FeatureRows:
    """Return the features of candidates (B, C) of B stretches of events, firsts to ends (B,), at now_ms (B,).

    Read are the newest `max_events` within the horizon, of DSIN too, whatever its sessions are.
    """
    firsts = np.maximum(firsts, ends - settings.max_events)
    spans = _spans(histories, within_horizon(histories.time_ms, firsts, ends, settings.horizon_ms), ends)
    user = np.zeros((len(ends), len(USER_FEATURES)), np.float32)
    candidate = np.zeros((*item.shape, len(CANDIDATE_FEATURES)), np.float32)
    offset_ms = round(settings.utc_offset_h * _HOUR_MS)
    _fill_users(spans, now_ms, settings.gap_ms, offset_ms, user)
    _fill_candidates(spans, now_ms, item, category, candidate)
    return FeatureRows(user, candidate)


def _spans(histories: Histories, firsts: Ints, ends: Ints) -> Spans:
    counts = ends - firsts
    starts = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=starts[1:])
    place = np.repeat(firsts - starts[:-1], counts) + np.arange(starts[-1])
    return Spans(
        histories.item[place].astype(np.int64),
        histories.category[place].astype(np.int64),
        histories.behaviour[place].astype(np.int64),
        histories.time_ms[place],
        starts,
    )


@compiled
def _nearness(age_ms: int) -> float:
    """Return 1 for now, less by the logarithm of the seconds since, 0 after a year."""
    return max(1.0 - math.log1p(max(age_ms, 0) / 1000.0) / _LONGEST, 0.0)


@compiled
def _fill_users(spans: Spans, now_ms: Ints, gap_ms: int, offset_ms: int, found: Floats) -> None:
    """Put the features of the moment and of users into found (B, F)."""
    for user in range(len(now_ms)):
        row, now = found[user], now_ms[user]
        first, end = spans.starts[user], spans.starts[user + 1]
        local_ms = now + offset_ms
        hour = 2.0 * math.pi * (local_ms % _DAY_MS) / _DAY_MS
        weekday = 2.0 * math.pi * ((local_ms // _DAY_MS + _FIRST_WEEKDAY) % 7) / 7.0
        row[0], row[1] = math.sin(hour), math.cos(hour)
        row[2], row[3] = math.sin(weekday), math.cos(weekday)
        sessions = 0
        for event in range(first, end):
            behaviour, age_ms = spans.behaviour[event], now - spans.time_ms[event]
            if 1 <= behaviour <= 4:
                row[3 + behaviour] += 1
            row[8] += age_ms < _HOUR_MS
            row[9] += age_ms < _DAY_MS
            sessions += event == first or spans.time_ms[event] - spans.time_ms[event - 1] > gap_ms
        for place in range(4, 10):
            row[place] = math.log1p(row[place])
        if end > first:
            days = max((now - spans.time_ms[first]) / _DAY_MS, 1.0)
            row[10] = math.log1p(sessions / days)
            row[11] = _nearness(now - spans.time_ms[end - 1])


@compiled
def _fill_candidates(spans: Spans, now_ms: Ints, item: Ints, category: Ints, found: Floats) -> None:
    """Put the features of candidates (B, C) into found (B, C, F), which is 0."""
    for user in range(len(now_ms)):
        first, end = spans.starts[user], spans.starts[user + 1]
        events = end - first
        near, logarithm = np.empty(events, np.float32), np.empty(events + 1, np.float32)
        logarithm[0] = 0.0
        for event in range(events):
            near[event] = _nearness(now_ms[user] - spans.time_ms[first + event])
            logarithm[event + 1] = math.log1p(event + 1)
        for place in range(item.shape[1]):
            _fill_candidate(
                spans,
                first,
                end,
                near,
                logarithm,
                item[user, place],
                category[user, place],
                found[user, place],
            )


@compiled
def _fill_candidate(
    spans: Spans,
    first: int,
    end: int,
    near: Floats,
    logarithm: Floats,
    item: int,
    category: int,
    row: Floats,
) -> None:
    """Put a candidate's features into row (F,); near (E,): the user's events; logarithm (E + 1,) of 1 + n."""
    for event in range(first, end):
        behaviour = spans.behaviour[event]
        if not 1 <= behaviour <= 4:
            continue
        group = _GROUPS[behaviour]
        if item >= FIRST_KNOWN and spans.item[event] == item:
            row[group] += 1
            row[3 + group] = near[event - first]  # the newest comes last
        if category >= FIRST_KNOWN and spans.category[event] == category:
            row[6 + group] += 1
            row[9 + group] = near[event - first]
    of_category = row[6] + row[7] + row[8]
    if of_category > 0:
        row[12] = of_category / (end - first)
        row[13] = (row[7] + row[8]) / of_category
    for group in range(3):
        row[group] = logarithm[int(row[group])]
        row[6 + group] = logarithm[int(row[6 + group])]
